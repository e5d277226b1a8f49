package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// What a client is told, and what the lists hold.

func checkVersion(_ context.Context, c *cell) error {
	if got := c.peer.server().ProtocolVersion; got != c.client.revision {
		return fmt.Errorf("the client negotiated %s", got)
	}
	messages, err := c.target.journal.messages()
	if err != nil {
		return err
	}
	spoken := map[string]bool{}
	for _, m := range messages {
		var params struct {
			ProtocolVersion string
			Meta            map[string]json.RawMessage `json:"_meta"`
		}
		if m.Params != nil {
			if err := json.Unmarshal(m.Params, &params); err != nil {
				return err
			}
		}
		switch {
		case m.Method == "initialize":
			spoken[params.ProtocolVersion] = true
		case m.Method != "server/discover" && params.Meta["io.modelcontextprotocol/protocolVersion"] != nil:
			spoken[strings.Trim(string(params.Meta["io.modelcontextprotocol/protocolVersion"]), `"`)] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{c.target.revision: true}, spoken); diff != "" {
		return fmt.Errorf("with the target (-want +got):\n%s", diff)
	}
	return nil
}

// checkCapabilities compares what the Backend says it can do with the union of
// what its targets say, asked directly. Tasks are there where both sides are of
// the same era: they are two different things.
func checkCapabilities(_ context.Context, c *cell) error {
	want := object{"prompts": object{"listChanged": true}} // the companion's
	extensions := object{}
	for _, target := range c.targets {
		var own object
		if err := json.Unmarshal(target.own.capabilities, &own); err != nil {
			return err
		}
		for name := range own {
			switch name {
			case "completions", "logging":
				want[name] = object{}
			case "tools":
				want[name] = object{"listChanged": true}
			case "resources":
				want[name] = object{"listChanged": true, "subscribe": true}
			case "tasks":
				if !c.client.modern() {
					want[name] = own[name]
				}
			case "extensions":
				for extension, settings := range own[name].(object) {
					if extension != tasksExtension || c.client.modern() && target.revision == "2026-07-28" {
						extensions[extension] = settings
					}
				}
			}
		}
	}
	if len(extensions) > 0 {
		want["extensions"] = extensions
	}
	raw, err := wireCapabilities(c.peer)
	if err != nil {
		return err
	}
	var got object
	if err := json.Unmarshal(raw, &got); err != nil {
		return err
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("capabilities (-want +got):\n%s", diff)
	}
	return nil
}

func checkInstructions(_ context.Context, c *cell) error {
	got := c.peer.server().Instructions
	for _, want := range []string{
		"[" + c.target.name + "]\n" + c.target.own.instructions,
		"[many]\nPrompts only.",
	} {
		if !strings.Contains(got, want) {
			return fmt.Errorf("instructions %q, without %q", got, want)
		}
	}
	return nil
}

func checkTools(ctx context.Context, c *cell) error {
	if err := c.listed(ctx, "tools/list"); err != nil {
		return err
	}
	if err := c.answers(ctx, "echo", object{"message": c.id}, "Echo: "+c.id); err != nil {
		return err
	}
	_, err := c.call(ctx, "none", nil, nil)
	if !refusedWith(err, -32602) || !strings.Contains(err.Error(), "Unknown tool: "+c.name("none")) {
		return fmt.Errorf("a tool that is not there: %v", err)
	}
	return nil
}

func checkPrompts(ctx context.Context, c *cell) error {
	if err := c.listed(ctx, "prompts/list"); err != nil {
		return err
	}
	raw, err := c.peer.request(ctx, "prompts/get", object{"name": c.name("args-prompt"), "arguments": object{"city": c.id}})
	if err != nil {
		return err
	}
	if want := "What's weather in " + c.id; !strings.Contains(string(raw), want) {
		return fmt.Errorf("%s, without %q", raw, want)
	}
	if _, err := c.peer.request(ctx, "prompts/get", object{"name": c.name("none")}); !refusedWith(err, -32602) {
		return fmt.Errorf("a prompt that is not there: %v", err)
	}
	return nil
}

func checkResources(ctx context.Context, c *cell) error {
	if err := c.listed(ctx, "resources/list"); err != nil {
		return err
	}
	if err := c.reads(ctx, c.uri(staticURI), ""); err != nil {
		return err
	}
	code := int64(-32002)
	if c.client.modern() {
		code = -32602
	}
	if _, err := c.peer.request(ctx, "resources/read", object{"uri": c.uri("demo://none")}); !refusedWith(err, code) {
		return fmt.Errorf("a resource that is not there: %v", err)
	}
	return nil
}

func checkTemplates(ctx context.Context, c *cell) error {
	if err := c.listed(ctx, "resources/templates/list"); err != nil {
		return err
	}
	return c.reads(ctx, c.uri("demo://resource/dynamic/text/7"), "7")
}

// listed checks that the client sees all that the target has, and nothing else
// of it, but for what tests add.
func (c *cell) listed(ctx context.Context, method string) error {
	for _, list := range listMethods {
		if list.method != method {
			continue
		}
		elements, err := listAll(ctx, c.peer, method, list.member)
		if err != nil {
			return err
		}
		want, got := map[string]bool{}, map[string]bool{}
		for _, raw := range c.target.own.lists[method] {
			var own object
			if err := json.Unmarshal(raw, &own); err != nil {
				return err
			}
			name := own[list.id].(string)
			if list.id == "name" {
				want[c.name(name)] = true
			} else {
				want[c.uri(name)] = true
			}
		}
		for _, e := range elements {
			name := e[list.id].(string)
			ours := strings.HasPrefix(name, c.target.name+"_") || strings.HasPrefix(name, c.target.name+"+") || strings.HasPrefix(name, "ui://"+c.target.name+"+")
			if ours && !strings.Contains(name, addedPrefix) && !strings.Contains(name, "demo://resource/session/") {
				got[name] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
			return fmt.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
	return nil
}

// reads reads a resource and checks that it goes by the URI that was asked for.
func (c *cell) reads(ctx context.Context, uri, text string) error {
	raw, err := c.peer.request(ctx, "resources/read", object{"uri": uri})
	if err != nil {
		return fmt.Errorf("reading %s: %w", uri, err)
	}
	var result struct {
		Contents []struct {
			URI  string
			Text string
			Blob string
		}
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return err
	}
	if len(result.Contents) != 1 || result.Contents[0].URI != uri || result.Contents[0].Text+result.Contents[0].Blob == "" ||
		!strings.Contains(result.Contents[0].Text, text) {
		return fmt.Errorf("reading %s: %s", uri, raw)
	}
	return nil
}

// checkLinks reads back the URIs that stand in results.
func checkLinks(ctx context.Context, c *cell) error {
	links, err := c.call(ctx, "get-resource-links", object{}, nil)
	if err != nil {
		return err
	}
	found := 0
	for _, block := range links.Content {
		if block.Type == "resource_link" {
			found++
			if err := c.reads(ctx, block.URI, ""); err != nil {
				return err
			}
		}
	}
	embedded, err := c.call(ctx, "get-resource-reference", object{}, nil)
	if err != nil {
		return err
	}
	for _, block := range embedded.Content {
		if block.Type == "resource" {
			found++
			if err := c.reads(ctx, block.Resource.URI, ""); err != nil {
				return err
			}
		}
	}
	raw, err := c.peer.request(ctx, "prompts/get", object{"name": c.name("resource-prompt"), "arguments": object{"resourceType": "Text", "resourceId": "1"}})
	if err != nil {
		return err
	}
	if want := `"` + c.uri("demo://resource/dynamic/text/1") + `"`; !bytes.Contains(raw, []byte(want)) {
		return fmt.Errorf("the prompt %s, without %s", raw, want)
	}
	if found < 2 {
		return fmt.Errorf("%d links in results", found)
	}
	return nil
}

func checkCompletion(ctx context.Context, c *cell) error {
	for _, one := range []struct {
		ref            object
		argument, want string
		typed          string
	}{
		{object{"type": "ref/prompt", "name": c.name("completable-prompt")}, "department", `["Engineering"]`, "E"},
		{object{"type": "ref/resource", "uri": c.uri(templateURI)}, "resourceId", `["7"]`, "7"},
	} {
		raw, err := c.peer.request(ctx, "completion/complete", object{"ref": one.ref, "argument": object{"name": one.argument, "value": one.typed}})
		if err != nil {
			return fmt.Errorf("%v: %w", one.ref, err)
		}
		var result struct {
			Completion struct{ Values json.RawMessage }
		}
		if err := json.Unmarshal(raw, &result); err != nil {
			return err
		}
		if got := string(result.Completion.Values); got != one.want {
			return fmt.Errorf("%v: values %s, want %s", one.ref, got, one.want)
		}
	}
	return nil
}

// checkPagination walks a list that is longer than a page of the gateway's, over
// targets whose pages are shorter.
func checkPagination(ctx context.Context, c *cell) error {
	prompts, err := listAll(ctx, c.peer, "prompts/list", "prompts")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	many := 0
	for _, p := range prompts {
		name := p["name"].(string)
		if seen[name] {
			return fmt.Errorf("%s is listed twice", name)
		}
		seen[name] = true
		if strings.HasPrefix(name, "many_p") {
			many++
		}
	}
	if many != manyPrompts || !seen[c.name("args-prompt")] {
		return fmt.Errorf("%d of %d prompts, and %d in all", many, manyPrompts, len(prompts))
	}
	paged := false
	for _, body := range c.peer.inbox().bodies("prompts/list") {
		paged = paged || strings.Contains(body, `"nextCursor":`)
	}
	if n, err := c.many.journal.count("prompts/list", `"cursor":`); err != nil || n < 2 || !paged {
		return fmt.Errorf("%d further pages of the target, %v; pages toward the client: %v", n, err, paged)
	}
	if _, err := c.peer.request(ctx, "prompts/list", object{"cursor": "made up"}); !refusedWith(err, -32602) {
		return fmt.Errorf("a cursor that was made up: %v", err)
	}
	return nil
}

// checkCaching checks the hints that clients of the modern era get, and that a
// list is not fetched again while it is fresh.
func checkCaching(ctx context.Context, c *cell) error {
	var result struct {
		TTL   *float64 `json:"ttlMs"`
		Scope string   `json:"cacheScope"`
	}
	for method, params := range map[string]object{"tools/list": {}, "resources/read": {"uri": c.uri(staticURI)}} {
		if _, err := c.peer.request(ctx, method, params); err != nil {
			return err
		}
		bodies := c.peer.inbox().bodies(method)
		messages, err := wireMessages(bodies[len(bodies)-1])
		if err != nil {
			return err
		}
		raw := messages[len(messages)-1].Result
		result.TTL, result.Scope = nil, ""
		if err := json.Unmarshal(raw, &result); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		switch {
		case !c.client.modern() && (result.TTL != nil && method == "tools/list" || result.Scope != "" && method == "tools/list"):
			return fmt.Errorf("%s has hints that the revision does not know", method)
		case c.client.modern() && (result.TTL == nil || *result.TTL < 0 || *result.TTL > float64(fullTTL.Milliseconds()) || result.Scope != "private"):
			return fmt.Errorf("%s: ttlMs %v, cacheScope %q", method, result.TTL, result.Scope)
		}
	}
	// Others use the target meanwhile, so one quiet moment is what has to be found.
	return c.eventually(ctx, "lists are served from memory while they are fresh", func() error {
		if _, err := c.peer.request(ctx, "tools/list", object{}); err != nil {
			return err
		}
		before, err := c.target.journal.count("tools/list")
		if err != nil {
			return err
		}
		for range 3 {
			if _, err := c.peer.request(ctx, "tools/list", object{}); err != nil {
				return err
			}
		}
		after, err := c.target.journal.count("tools/list")
		if err != nil || after != before || before == 0 {
			return fmt.Errorf("the target was asked %d times, then %d, %v", before, after, err)
		}
		return nil
	})
}

// checkFanOut looks at all that the companion, which has nothing but prompts, was
// ever asked.
func checkFanOut(ctx context.Context, c *cell) error {
	if _, err := c.peer.request(ctx, "prompts/get", object{"name": "many_p0001"}); err != nil {
		return err
	}
	messages, err := c.many.journal.messages()
	if err != nil {
		return err
	}
	gets := 0
	for _, m := range messages {
		switch m.Method {
		case "initialize", "notifications/initialized", "server/discover", "prompts/list", "ping",
			"notifications/cancelled", "notifications/roots/list_changed":
		case "prompts/get":
			gets++
		case "subscriptions/listen":
			for _, other := range []string{"toolsListChanged", "resourcesListChanged", "resourceSubscriptions", "taskIds"} {
				if bytes.Contains(m.Params, []byte(other)) {
					return fmt.Errorf("the companion was asked for %s", m.Params)
				}
			}
		default:
			return fmt.Errorf("the companion was asked for %s %s", m.Method, m.Params)
		}
	}
	if gets == 0 {
		return fmt.Errorf("the companion did not serve its prompt")
	}
	return nil
}

// checkExtensions looks for the settings of extensions on both sides.
func checkExtensions(ctx context.Context, c *cell) error {
	const settings = `"com.example/matrix":{"level":3}`
	if c.target.npm {
		n, err := c.target.journal.count("initialize", `"com.example/matrix"`)
		if err != nil || n == 0 {
			return fmt.Errorf("the client's extensions did not reach the target: %v", err)
		}
		return c.lacks(`"extensions"`, "server-everything has no extensions; those of the client reach it")
	}
	if got := compactJSON(c.peer.server().Capabilities); !strings.Contains(got, settings) {
		return fmt.Errorf("the server's capabilities are %s", got)
	}
	return c.answers(ctx, "capabilities", object{}, settings)
}

func compactJSON(raw []byte) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}
