package federation

import (
	"strings"
	"testing"
)

// The user interfaces of MCP apps are found where tools say that they are, and are
// served as their target has them: only their URIs carry the target's name. So with
// all that is not a name: icons, structured content, what nobody knows.
func TestApps(t *testing.T) {
	const (
		tool = `{"name":"chart","title":"C","inputSchema":{"type":"object"},"outputSchema":{"type":"object"},"icons":[{"src":"ui://board/icon.png","sizes":["48x48"]},{"src":"x://icon"}],` +
			`"_meta":{"ui":{"resourceUri":"ui://board/main","visibility":["model","app"]},"ui/resourceUri":"ui://board/main","vendor":"ui://board/main"}}`
		resource = `{"uri":"ui://board/main","name":"m","mimeType":"text/html;profile=mcp-app","icons":[{"src":"ui://board/icon.png"}],"_meta":{"ui":{"csp":{"connectDomains":["https://ui.example"],"resourceDomains":["https://*.cdn.example"]},"domain":"board.example","prefersBorder":true}}}`
		contents = `{"uri":"ui://board/main","mimeType":"text/html;profile=mcp-app","text":"<a href=\"ui://board/main\">","_meta":{"ui":{"csp":{"frameDomains":["https://ui.example"]}}}}`
		result   = `"content":[{"type":"resource","resource":` + contents + `},{"type":"text","text":"ui://board/main"}],"structuredContent":{"uri":"ui://board/main","n":1.0e2},"_meta":{"ui":{"resourceUri":"ui://board/main"},"vendor":{"x":[null]}},"more":9007199254740993`
	)
	shown := func(s, target string) string {
		uri := `ui://` + target + `+board/main`
		s = strings.ReplaceAll(s, `"uri":"ui://board/main","name"`, `"uri":"`+uri+`","name"`)
		s = strings.ReplaceAll(s, `"uri":"ui://board/main","mimeType"`, `"uri":"`+uri+`","mimeType"`)
		s = strings.ReplaceAll(s, `resourceUri":"ui://board/main"`, `resourceUri":"`+uri+`"`)
		return strings.ReplaceAll(s, `"name":"chart"`, `"name":"`+target+`_chart"`)
	}
	var servers []*scripted
	for _, modern := range []bool{true, false} {
		name := map[bool]string{true: "new", false: "old"}[modern]
		s := newScripted(t, name, modern, `{"tools":{},"resources":{},"extensions":{"io.modelcontextprotocol/ui":{}}}`)
		s.tool(tool, func(*exchange) string { return `"result":{` + result + `}` })
		s.handle("resources/list", func(*exchange) string { return `"result":{"resources":[` + resource + `]}` })
		s.handle("resources/read", func(x *exchange) string {
			if !strings.Contains(x.params, `"uri":"ui://board/main"`) {
				t.Errorf("%s got %s", name, x.params)
			}
			return `"result":{"contents":[` + contents + `]}`
		})
		servers = append(servers, s)
	}
	g := newGateway(t, Config{Targets: scripts(servers...)})
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		c := g.caller(version, `{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}}`)
		for _, target := range []string{"new", "old"} {
			uri := "ui://" + target + "+board/main"
			_, tools := c.do("tools/list", "", "", "")
			_, resources := c.do("resources/list", "", "", "")
			_, read := c.do("resources/read", uri, `"uri":"`+uri+`"`, "")
			for what, pair := range map[string][2]string{
				"tools/list":     {tools, shown(tool, target)},
				"resources/list": {resources, shown(resource, target)},
				"resources/read": {read, shown(contents, target)},
				"tools/call":     {c.call(target+"_chart", ""), shown(result, target)},
			} {
				if !strings.Contains(pair[0], pair[1]) {
					t.Errorf("%s, %s: %s\nwant %s", version, what, pair[0], pair[1])
				}
			}
		}
	}
	for _, s := range servers {
		method := map[bool]string{true: "server/discover", false: "initialize"}[s.modern]
		for _, params := range s.reached(method) {
			if !strings.Contains(params, `"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}`) {
				t.Errorf("%s was told %s", s.target.Name, params)
			}
		}
	}
}
