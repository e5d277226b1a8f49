package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// What has to come through unchanged.

func checkApps(ctx context.Context, c *cell) error {
	if c.target.npm {
		return c.lacks(`"ui://`, "server-everything has no MCP Apps")
	}
	tool, err := c.element(ctx, "tools/list", c.name("app"))
	if err != nil {
		return err
	}
	meta, _ := tool["_meta"].(object)
	ui, _ := meta["ui"].(object)
	if ui["resourceUri"] != c.uri(uiURI) {
		return fmt.Errorf("the tool refers to %v", tool["_meta"])
	}
	view, err := c.element(ctx, "resources/list", c.uri(uiURI))
	if err != nil {
		return err
	}
	if view["mimeType"] != "text/html;profile=mcp-app" {
		return fmt.Errorf("the view is listed as %v", view)
	}
	if err := c.reads(ctx, c.uri(uiURI), "<!doctype html>"); err != nil {
		return err
	}
	return c.peer.inbox().receives(ctx, `"_meta":{"ui":{"prefersBorder":true}}`)
}

func checkIcons(ctx context.Context, c *cell) error {
	if c.target.npm {
		return c.lacks(`"icons"`, "server-everything has no icons")
	}
	for method, name := range map[string]string{
		"tools/list": c.name("echo"), "prompts/list": c.name("args-prompt"),
		"resources/list": c.uri(staticURI), "resources/templates/list": c.uri(templateURI),
	} {
		e, err := c.element(ctx, method, name)
		if err != nil {
			return err
		}
		icons, _ := json.Marshal(e["icons"])
		if want := `[{"mimeType":"image/png","sizes":["48x48"],"src":"https://example.com/icon.png"}]`; string(icons) != want {
			return fmt.Errorf("%s has the icons %s", name, icons)
		}
	}
	return nil
}

func checkStructured(ctx context.Context, c *cell) error {
	tool, err := c.element(ctx, "tools/list", c.name("get-structured-content"))
	if err != nil {
		return err
	}
	if schema, _ := tool["outputSchema"].(object); schema["type"] != "object" {
		return fmt.Errorf("the output schema is %v", tool["outputSchema"])
	}
	result, err := c.call(ctx, "get-structured-content", object{"location": "New York"}, nil)
	if err != nil {
		return err
	}
	var weather struct{ Temperature float64 }
	if err := json.Unmarshal(result.StructuredContent, &weather); err != nil || weather.Temperature != 33 {
		return fmt.Errorf("structured content %s: %v", result.StructuredContent, err)
	}
	if c.target.npm {
		return nil
	}
	return c.peer.inbox().receives(ctx, `"exact":[12345678901234567890,1.0,1e2]}`)
}

// checkUnknown compares lists byte for byte with those of the target, and looks
// for members in results that no revision knows.
func checkUnknown(ctx context.Context, c *cell) error {
	for _, list := range listMethods {
		if _, err := listAll(ctx, c.peer, list.method, list.member); err != nil {
			return err
		}
		elements, err := wireElements(c.peer.inbox(), list.method, list.member)
		if err != nil {
			return err
		}
		listed := map[string]bool{}
		for _, e := range elements {
			listed[string(e)] = true
		}
		for _, own := range c.target.own.lists[list.method] {
			var named object
			if err := json.Unmarshal(own, &named); err != nil {
				return err
			}
			id := named[list.id].(string)
			client := c.name(id)
			if list.id != "name" {
				client = c.uri(id)
			}
			want := strings.Replace(string(own), fmt.Sprintf(`"%s":"%s"`, list.id, id), fmt.Sprintf(`"%s":"%s"`, list.id, client), 1)
			want = strings.ReplaceAll(want, `"resourceUri":"`+uiURI, `"resourceUri":"`+c.uri(uiURI))
			if !listed[want] {
				return fmt.Errorf("%s has no %s", list.method, want)
			}
		}
	}
	// What the client adds reaches the target, and what the target adds the client.
	meta := object{"com.example/up": object{"id": c.id}}
	if _, err := c.call(ctx, "echo", object{"message": "x"}, meta); err != nil {
		return err
	}
	if n, err := c.target.journal.count("tools/call", fmt.Sprintf(`"com.example/up":{"id":"%s"}`, c.id)); err != nil || n != 1 {
		return fmt.Errorf("%d calls have the client's own _meta: %v", n, err)
	}
	if c.target.npm {
		return nil
	}
	in := c.peer.inbox()
	if _, err := c.call(ctx, "odd", nil, nil); err != nil {
		return err
	}
	if err := in.receives(ctx, `{"type":"text","text":"odd",`+string(oddMember)+`}`); err != nil {
		return err
	}
	if err := in.receives(ctx, `"com.example/kept":"odd",`+string(oddMember)); err != nil {
		return err
	}
	if _, err := c.peer.request(ctx, "prompts/get", object{"name": c.name("args-prompt"), "arguments": object{"city": "x"}}); err != nil {
		return err
	}
	return in.receives(ctx, `"description":"odd",`+string(oddMember))
}
