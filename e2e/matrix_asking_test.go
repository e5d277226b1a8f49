package e2e

import (
	"context"
	"fmt"
	"strings"
)

// What servers ask clients.

// asks calls a tool that asks the client by a method, and checks the question,
// and what the tool makes of the answer.
func (c *cell) asks(ctx context.Context, tool string, arguments object, method string, question []string, answer ...string) error {
	mark := c.peer.inbox().now()
	if err := c.answers(ctx, tool, arguments, answer...); err != nil {
		return err
	}
	return c.peer.inbox().hears(ctx, mark, method, question...)
}

func checkElicitForm(ctx context.Context, c *cell) error {
	return c.asks(ctx, "trigger-elicitation-request", nil, "elicitation/create", []string{`"requestedSchema":{`}, `"action": "accept"`, "Ada")
}

func checkElicitURL(ctx context.Context, c *cell) error {
	const url = "https://example.com/"
	return c.asks(ctx, "trigger-url-elicitation", object{"url": url}, "elicitation/create", []string{`"mode":"url"`, url}, `"action": "accept"`)
}

func checkSampling(ctx context.Context, c *cell) error {
	prompt := "of " + c.target.name
	return c.asks(ctx, "trigger-sampling-request", object{"prompt": prompt}, "sampling/createMessage", []string{prompt}, "sampled: ", prompt)
}

func checkSamplingWithTools(ctx context.Context, c *cell) error {
	if c.target.npm {
		return c.lacks(`"sample-with-tools"`, "server-everything does not sample with tools")
	}
	return c.asks(ctx, "sample-with-tools", nil, "sampling/createMessage", []string{`"look"`, `"toolChoice"`}, `"tool_use"`, `"look"`, "of "+c.target.name)
}

func checkRoots(ctx context.Context, c *cell) error {
	root := "file:///" + c.peerName
	if err := c.answers(ctx, "get-roots-list", nil, root); err != nil {
		return err
	}
	if c.client.modern() || c.target.revision == "2026-07-28" {
		return nil // there is no notification of changed roots
	}
	before, err := c.target.journal.count("notifications/roots/list_changed")
	if err != nil {
		return err
	}
	if err := c.peer.rootsChanged(ctx); err != nil {
		return err
	}
	return c.eventually(ctx, "the target hears that the roots changed", func() error {
		after, err := c.target.journal.count("notifications/roots/list_changed")
		if err != nil || after <= before {
			return fmt.Errorf("%d notifications before and %d after, %v", before, after, err)
		}
		return nil
	})
}

// checkNeverAsked calls the tools that ask, for a client that can be asked nothing.
func checkNeverAsked(ctx context.Context, c *cell) error {
	for _, tool := range []string{
		"trigger-elicitation-request", "trigger-url-elicitation", "trigger-sampling-request", "sample-with-tools", "get-roots-list",
	} {
		result, err := callTool(ctx, c.bare, c.name(tool), object{"url": "https://example.com/", "prompt": "x"}, nil)
		if err == nil && !result.IsError {
			return fmt.Errorf("%s answers %q", tool, result.text())
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not answered: %w", tool, err)
		}
	}
	in := c.bare.inbox()
	for _, method := range []string{"elicitation/create", "sampling/createMessage", "roots/list"} {
		if asked := in.since(0, method); len(asked) > 0 {
			return fmt.Errorf("the client was asked %s %s", method, asked[0].Params)
		}
	}
	for _, body := range in.bodies("tools/call") {
		if strings.Contains(body, `"input_required"`) {
			return fmt.Errorf("the client was asked: %s", body)
		}
	}
	return nil
}
