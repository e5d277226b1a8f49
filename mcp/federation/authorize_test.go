package federation

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"pgregory.net/rapid"

	"github.com/mcpgw/mcpgw/policy"
)

// post sends one message as a client that is no SDK would.
func (g *gateway) post(body string, header ...string) (status int, answer string, h http.Header) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.url, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
		} else if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Add(header[i], header[i+1])
		}
	}
	resp, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern sends a request of the modern era; name is for Mcp-Name.
func (g *gateway) modern(method, name, params string, header ...string) (status int, answer string) {
	g.t.Helper()
	if params != "" {
		params += ","
	}
	h := append([]string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}, header...)
	if name != "" {
		h = append(h, "Mcp-Name", name)
	}
	status, answer, _ = g.post(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+params+meta+`}}`, h...)
	return status, answer
}

// initialize begins a session and returns its id.
func (g *gateway) initialize(version string, header ...string) string {
	g.t.Helper()
	status, body, h := g.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+version+
		`","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, header...)
	id := h.Get("Mcp-Session-Id")
	if status != 200 || id == "" {
		g.t.Fatalf("initialize: %d %s", status, body)
	}
	return id
}

// What is denied and what does not exist answer with the same bytes but for the
// name, and the target hears nothing of either.
func TestDeniedIsUnknown(t *testing.T) {
	_, _, cfg := mixed(t)
	s := newServer(t, "rec", true, nil)
	s.echo("secret", "open")
	s.AddPrompt(&mcp.Prompt{Name: "secret"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	s.AddResource(&mcp.Resource{URI: "x://secret", Name: "s"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{}, nil
	})
	cfg.Targets = append(cfg.Targets, s.target)
	g := newGateway(t, cfg,
		rule(t, policy.Deny, `mcp.tool.name == "secret"`, `mcp.prompt.name == "secret"`, `mcp.resource.name == "x://secret"`))
	sid := g.initialize("2025-11-25")
	for _, tt := range []struct{ method, key, denied, unknown string }{
		{"tools/call", "name", "rec_secret", "rec_absent"},
		{"prompts/get", "name", "rec_secret", "rec_absent"},
		{"resources/read", "uri", "rec+x://secret", "none+x://secret"},
	} {
		for _, era := range []string{"legacy", "modern"} {
			ask := func(name string) string {
				params := fmt.Sprintf(`"%s":"%s"`, tt.key, name)
				var status int
				var body string
				if era == "modern" {
					status, body = g.modern(tt.method, name, params)
				} else {
					status, body, _ = g.post(`{"jsonrpc":"2.0","id":1,"method":"`+tt.method+`","params":{`+params+`}}`, "Mcp-Session-Id", sid)
				}
				return fmt.Sprint(status, strings.ReplaceAll(body, name, "NAME"))
			}
			denied, unknown := ask(tt.denied), ask(tt.unknown)
			if diff := cmp.Diff(denied, unknown); diff != "" {
				t.Errorf("%s %s: %s", tt.method, era, diff)
			}
			if !strings.HasPrefix(denied, `200{"jsonrpc":"2.0","id":1,"error":{"code":-32`) {
				t.Errorf("%s %s: %s", tt.method, era, denied)
			}
		}
		if got := s.reached(tt.method); len(got) != 0 {
			t.Errorf("the target got %v", got)
		}
	}
	// A resource that the target itself does not have answers the same, too.
	_, notThere := g.modern("resources/read", "rec+x://nothing", `"uri":"rec+x://nothing"`)
	_, denied := g.modern("resources/read", "rec+x://secret", `"uri":"rec+x://secret"`)
	if diff := cmp.Diff(strings.ReplaceAll(denied, "secret", "nothing"), notThere); diff != "" {
		t.Error(diff)
	}
}

// A rule about arguments lists the tool and decides about each call.
func TestArguments(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.echo("say")
	g := newGateway(t, Config{Targets: append(Config{}.Targets, s.target)},
		rule(t, policy.Allow, `mcp.tool.name == "say" && mcp.tool.arguments.text == "please"`))
	for _, version := range versions {
		cs := g.connect(version, nil)
		list, err := cs.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 1 {
			t.Fatalf("%+v %v", list, err)
		}
		before := len(s.reached("tools/call"))
		r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "s_say", Arguments: map[string]any{"text": "now"}})
		if err != nil || !r.IsError || text(r) != "Not permitted with these arguments" {
			t.Errorf("%+v %v", r, err)
		}
		if len(s.reached("tools/call")) != before {
			t.Error("the refused call was sent")
		}
		r, err = cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "s_say", Arguments: map[string]any{"text": "please"}})
		if err != nil || text(r) != "say:please" {
			t.Errorf("%+v %v", r, err)
		}
	}
}

// Whatever the rules and the headers: what is listed can be called, what is not
// listed can't, and no target is called for what is denied.
func TestOnlyPermitted(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	one, two := newServer(t, "one", true, nil), newServer(t, "two", false, nil)
	one.echo(names...)
	two.echo(names...)
	g := newGateway(t, Config{Targets: append(Config{}.Targets, one.target, two.target)})
	sid := g.initialize("2025-11-25")
	rapid.Check(t, func(rt *rapid.T) {
		type condition struct {
			expression string
			holds      func(target, name, role string) bool
			// fails says where the expression is an error for want of the header.
			fails func(name string) bool
		}
		never := func(string) bool { return false }
		draw := func(label string) condition {
			switch rapid.IntRange(0, 3).Draw(rt, label) {
			case 0:
				n := rapid.SampledFrom(names).Draw(rt, "name")
				return condition{fmt.Sprintf("mcp.tool.name == %q", n), func(_, name, _ string) bool { return name == n }, never}
			case 1:
				n := rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "target")
				return condition{fmt.Sprintf("mcp.tool.target == %q", n), func(target, _, _ string) bool { return target == n }, never}
			case 2:
				return condition{`request.headers["x-role"] == "admin"`, func(_, _, role string) bool { return role == "admin" },
					func(string) bool { return true }}
			default:
				n := rapid.SampledFrom(names).Draw(rt, "name")
				return condition{fmt.Sprintf(`request.headers["x-role"] == "user" && mcp.tool.name in ["%s"]`, n),
					func(_, name, role string) bool { return role == "user" && name == n },
					func(name string) bool { return name == n }}
			}
		}
		var rules []policy.RuleSet
		var allows, denies []condition
		for i := range rapid.IntRange(0, 3).Draw(rt, "rules") {
			c := draw(fmt.Sprint("rule", i))
			if rapid.Bool().Draw(rt, "deny") {
				denies = append(denies, c)
				rules = append(rules, rule(t, policy.Deny, c.expression))
			} else {
				allows = append(allows, c)
				rules = append(rules, rule(t, policy.Allow, c.expression))
			}
		}
		role := rapid.SampledFrom([]string{"", "user", "admin"}).Draw(rt, "role")
		var want []string
		for _, target := range []string{"one", "two"} {
			for _, name := range names {
				// A header that is missing is an error in the expression: an Allow
				// rule does not match then, a Deny rule does.
				allowed := len(allows) == 0
				for _, c := range allows {
					allowed = allowed || c.holds(target, name, role)
				}
				for _, c := range denies {
					allowed = allowed && !c.holds(target, name, role) && !(role == "" && c.fails(name))
				}
				if allowed {
					want = append(want, target+"_"+name)
				}
			}
		}
		g.mu.Lock()
		g.rules = rules
		g.mu.Unlock()

		header := []string{"Mcp-Session-Id", sid}
		if role != "" {
			header = append(header, "X-Role", role)
		}
		_, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, header...)
		var listed []string
		for _, target := range []string{"one", "two"} {
			for _, name := range names {
				if strings.Contains(body, `"`+target+"_"+name+`"`) {
					listed = append(listed, target+"_"+name)
				}
			}
		}
		if diff := cmp.Diff(want, listed); diff != "" {
			rt.Fatalf("listed under %d rules as %q: %s", len(rules), role, diff)
		}
		target := rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "call target")
		name := rapid.SampledFrom(names).Draw(rt, "call name")
		before := len(one.reached("tools/call")) + len(two.reached("tools/call"))
		_, body, _ = g.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"%s_%s","arguments":{"text":"x"}}}`,
			target, name), header...)
		called := len(one.reached("tools/call")) + len(two.reached("tools/call")) - before
		permitted := slices.Contains(want, target+"_"+name)
		if (called == 1) != permitted || strings.Contains(body, "Unknown tool") == permitted {
			rt.Fatalf("%s_%s: permitted %v, called %d times: %s", target, name, permitted, called, body)
		}
	})
}
