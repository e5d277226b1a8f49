package federation

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/jsonpath"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Guard checks what clients send in calls, and the answers that they get. It is immutable and
// safe for concurrent use.
type Guard struct {
	Prompt *guard.Prompt // nil checks nothing
	Answer *guard.Answer // nil checks nothing
	// Targets are the guards that hold in place of this one at the targets of these names.
	Targets map[string]*Guard
}

type guardKey struct{}

// WithGuard adds the guard for the chosen backend to the context of a request.
func WithGuard(ctx context.Context, g *Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

// guardOf returns the guard of a request at a target, nil when it has none.
func guardOf(ctx context.Context, target string) *Guard {
	g, ok := ctx.Value(guardKey{}).(*Guard)
	if !ok {
		return nil
	}
	if own := g.Targets[target]; own != nil {
		return own
	}
	return g
}

// everyString are the strings of the arguments of a call.
var everyString = jsonpath.Compile("**")

// resultTexts are the texts of results, by what they are of.
var resultTexts = map[kind]jsonpath.Paths{
	tools:     jsonpath.Compile("content[*].text", "content[*].resource.text", "structuredContent.**"),
	prompts:   jsonpath.Compile("description", "messages[*].content[*].text", "messages[*].content[*].resource.text"),
	resources: jsonpath.Compile("contents[*].text"),
	task:      jsonpath.Compile("content[*].text", "content[*].resource.text", "structuredContent.**", "result.content[*].text", "result.content[*].resource.text", "result.structuredContent.**", "statusMessage"),
}

// guarded checks the arguments of a request to a target, and has its result checked. done says that the
// request was answered: it does not pass. Without a guard nothing is read.
func (q *request) guarded(ctx context.Context, r *relayed) (done bool, err error) {
	g := guardOf(ctx, q.b.cfg.Targets[r.target].Name)
	if g == nil {
		return false, nil
	}
	if g.Answer != nil {
		rewrite := r.rewrite
		r.rewrite = func(result []byte) ([]byte, error) {
			out, err := rewrite(result)
			if err != nil {
				return nil, err
			}
			return q.guardResult(ctx, g.Answer, r.kind, out)
		}
	}
	arguments := protocol.Get(q.msg.Params, "arguments")
	if g.Prompt == nil || len(arguments) == 0 || arguments[0] != '{' {
		return false, nil
	}
	masked, err := q.masked(arguments, everyString, "user", func(texts []guard.Message) ([]guard.Message, error) {
		return g.Prompt.Check(ctx, q.header, texts)
	})
	var no *guard.Rejection
	switch {
	case errors.As(err, &no):
		q.rec.ErrorType = "guard_" + no.By
		return true, q.rejected(r.kind, no)
	case err != nil:
		return true, err
	case masked == nil:
		return false, nil
	}
	r.edits = append(r.edits, protocol.Edit{Path: []string{"arguments"}, Value: masked})
	q.mirror(r.params, masked)
	return false, nil
}

// masked returns a document with what a guard makes of its strings; nil when they stay.
func (q *request) masked(doc []byte, paths jsonpath.Paths, role string, check func([]guard.Message) ([]guard.Message, error)) ([]byte, error) {
	places := paths.Find(doc)
	texts := make([]guard.Message, len(places))
	for i := range places {
		texts[i] = guard.Message{Role: role, Text: places[i].Text(doc)}
	}
	out, err := check(texts)
	if err != nil {
		return nil, err
	}
	var changed []jsonpath.Place
	var now []string
	for i := range places {
		if out[i].Text != texts[i].Text {
			changed, now = append(changed, places[i]), append(now, out[i].Text)
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return jsonpath.Replace(doc, changed, now), nil
}

// guardResult checks a result. One of a tool that does not pass becomes one that says so.
func (q *request) guardResult(ctx context.Context, g *guard.Answer, k kind, result []byte) ([]byte, error) {
	if len(result) == 0 || result[0] != '{' {
		return result, nil
	}
	masked, err := q.masked(result, resultTexts[k], "tool", func(texts []guard.Message) ([]guard.Message, error) {
		out, err := g.Ask(ctx, q.header, texts)
		if err != nil || g.Regex == nil {
			return out, err
		}
		checked := make([]guard.Message, len(out))
		for i, m := range out {
			text, rejected := g.Regex.Check(m.Text)
			if rejected {
				return nil, g.Rejected()
			}
			checked[i] = guard.Message{Role: m.Role, Text: text}
		}
		return checked, nil
	})
	var no *guard.Rejection
	switch {
	case errors.As(err, &no):
		q.rec.ErrorType = "guard_" + no.By
		if k != tools && q.msg.Method != "tasks/result" {
			return nil, protocol.Errorf(protocol.CodeInvalidRequest, "%s", no.Message)
		}
		q.rec.MCP.ToolError = true
		return q.asComplete(refusal(no)), nil
	case err != nil:
		return nil, err
	case masked == nil:
		return result, nil
	}
	return masked, nil
}

// rejected answers a request that does not pass: a call of a tool by a result that says so, which a model
// can read, anything else by an error.
func (q *request) rejected(k kind, no *guard.Rejection) error {
	if k != tools {
		return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInvalidRequest, "%s", no.Message))
	}
	q.rec.MCP.ToolError = true
	return q.result(q.asComplete(refusal(no)))
}

// refusal is the result of a tool that says why there is none.
func refusal(no *guard.Rejection) []byte {
	return append(append([]byte(`{"content":[{"type":"text","text":`), protocol.Quote(no.Message)...), `}],"isError":true}`...)
}

// mirror has the headers that mirror arguments say what is sent.
func (q *request) mirror(params []paramHeader, arguments []byte) {
	if len(params) == 0 {
		return
	}
	header := q.forward.Header.Clone()
	for i := range params {
		name := http.CanonicalHeaderKey(params[i].header)
		delete(header, name)
		if mirrored, ok := protocol.HeaderOfParam(protocol.Get(arguments, params[i].path...)); ok {
			header[name] = []string{mirrored}
		}
	}
	q.forward.Header = header
}
