package federation

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// serve serves one request of either era.
func (q *request) serve(ctx context.Context) error {
	if k, ok := listKind(q.msg.Method); ok {
		return q.list(ctx, k)
	}
	switch q.msg.Method {
	case "tools/call":
		return q.callTool(ctx)
	case "prompts/get":
		return q.getPrompt(ctx)
	case "resources/read":
		return q.readResource(ctx)
	case "completion/complete":
		return q.complete(ctx)
	case "tasks/get", "tasks/cancel":
		return q.task(ctx)
	}
	if q.era == protocol.Modern {
		switch q.msg.Method {
		case "server/discover":
			return q.serverDiscover(ctx)
		case "subscriptions/listen":
			return q.listen(ctx)
		case "tasks/update":
			return q.task(ctx)
		}
		return q.unknownMethod()
	}
	switch q.msg.Method {
	case "ping":
		return q.result([]byte("{}"))
	case "logging/setLevel":
		return q.setLevel(ctx)
	case "resources/subscribe":
		return q.subscribe(ctx)
	case "resources/unsubscribe":
		return q.unsubscribe(ctx)
	case "tasks/result":
		return q.task(ctx)
	case "tasks/list":
		return q.listTasks(ctx)
	case "initialize":
		return protocol.Errorf(protocol.CodeInvalidRequest, "the session is initialized")
	}
	return q.unknownMethod()
}

func (q *request) unknownMethod() error {
	status := http.StatusOK
	if q.era == protocol.Modern {
		status = http.StatusNotFound
	}
	return q.refuse(status, protocol.MethodNotFound(q.msg.Method))
}

// result answers with a result.
func (q *request) result(result []byte) error {
	frame := protocol.AppendResult(make([]byte, 0, 64), q.msg.ID, nil)
	if len(result) == 0 {
		return q.answer.respond(http.StatusOK, frame)
	}
	return q.answer.respondIn(http.StatusOK, frame[:len(frame)-len("{}}")], result, frame[len(frame)-len("}"):])
}

// refuse answers with a JSON-RPC error.
func (q *request) refuse(status int, e *protocol.Error) error {
	q.rec.ErrorType = strconv.Itoa(int(e.Code))
	return q.answer.respond(status, protocol.AppendError(nil, q.msg.ID, e))
}

// unknown answers that there is no such thing. What is denied, what does not
// exist and what the target does not find get the same bytes.
func (q *request) unknown(k kind, name string) error {
	switch k {
	case tools:
		return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInvalidParams, "Unknown tool: %s", name))
	case prompts:
		return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInvalidParams, "Unknown prompt: %s", name))
	case task:
		return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInvalidParams, "Unknown task: %s", name))
	}
	e := protocol.Errorf(protocol.CodeInvalidParams, "Resource not found: %s", name)
	if q.era == protocol.Legacy {
		e.Code = protocol.CodeResourceNotFoundLegacy
	}
	e.Data = append(append([]byte(`{"uri":`), protocol.Quote(name)...), '}')
	return q.refuse(http.StatusOK, e)
}

// fail ends a request whose lookup or authorization failed.
func (q *request) fail(k kind, name string, err error) error {
	if errors.Is(err, errUnknown) {
		e := q.unknown(k, name)
		q.denied(err)
		return e
	}
	return q.targetFailed(err)
}

// targetFailed answers for a target that did not: a JSON-RPC error, since the
// endpoint itself works. What the client or the gateway did is returned.
func (q *request) targetFailed(err error) error {
	f := fault.Of(err)
	switch f.Code {
	case fault.UpstreamFailed, fault.UpstreamTimeout, fault.UpstreamUnreachable:
		q.rec.Err = err
		e := q.refuse(http.StatusOK, rpcError(f))
		q.rec.ErrorType = f.Code.String()
		return e
	default:
		return err
	}
}

func (q *request) catalogue() *view {
	if q.view == nil {
		q.view = q.ownView(q.b.view(q.client.Isolation, q.client.Capabilities, q.forward))
	}
	return q.view
}

// scope is how the names and URIs of a target are shown.
func (q *request) scope(target int) scope {
	return q.b.naming.scope(q.b.cfg.Targets[target].Name)
}

func (q *request) needs(param string) error {
	return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: %s needs the string params.%s", q.msg.Method, param)
}

// callTool serves tools/call. Whether the tool may be seen is decided before
// anything else about it, then whether these arguments are permitted.
func (q *request) callTool(ctx context.Context) error {
	name, ok := protocol.GetString(q.msg.Params, "name")
	if !ok {
		return q.needs("name")
	}
	q.rec.MCP.ClientName = name
	v := q.catalogue()
	p, err := v.find(ctx, tools, q.msg.Method, name)
	if err != nil {
		return q.fail(tools, name, err)
	}
	q.rec.MCP.Target, q.rec.MCP.Name = q.b.cfg.Targets[p.target].Name, p.own
	arguments := protocol.Get(q.msg.Params, "arguments")
	if len(arguments) > 0 && arguments[0] != '{' {
		if string(arguments) != "null" {
			return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.arguments is no object")
		}
		arguments = nil
	}
	if err := q.paramHeaders(p.params, arguments); err != nil {
		return err
	}
	decided := arguments
	if decided == nil {
		decided = []byte("{}")
	}
	switch err := v.authorize(ctx, tools, q.msg.Method, p.target, p.own, decided); {
	case errors.Is(err, errUnknown):
		q.rec.MCP.ToolError = true
		e := q.result(q.asComplete([]byte(`{"content":[{"type":"text","text":"Not permitted with these arguments"}],"isError":true}`)))
		q.denied(err)
		return e
	case err != nil:
		return err
	}
	r := &relayed{kind: tools, target: p.target, name: name, edits: set(p.own, "name"), params: p.params}
	q.augment(ctx, r, p.item)
	r.rewrite = func(result []byte) ([]byte, error) {
		out, isTask, err := q.called(r, p.own, result)
		if !isTask {
			q.rec.MCP.ToolError = string(protocol.Get(result, "isError")) == "true"
		}
		return out, err
	}
	return q.relay(ctx, r)
}

// paramHeaders checks the arguments that headers mirror, and sends them on as
// the body says: a client of the legacy era sends none of them.
func (q *request) paramHeaders(params []paramHeader, arguments []byte) error {
	if len(params) == 0 {
		return nil
	}
	header := q.forward.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	for i := range params {
		name := http.CanonicalHeaderKey(params[i].header)
		value := protocol.Get(arguments, params[i].path...)
		if string(value) == "null" {
			value = nil
		}
		if q.era == protocol.Modern {
			switch sent := q.header[name]; {
			case len(sent) > 1:
				return protocol.HeaderMismatch("%s stands more than once", params[i].header)
			case len(sent) == 0 && value != nil:
				return protocol.HeaderMismatch("%s is missing", params[i].header)
			case len(sent) == 1 && (value == nil || !protocol.HeaderEqualsParam(sent[0], value)):
				return protocol.HeaderMismatch("%s does not match the argument of the body", params[i].header)
			}
			continue
		}
		delete(header, name)
		if mirrored, ok := protocol.HeaderOfParam(value); ok {
			header[name] = []string{mirrored}
		}
	}
	q.forward.Header = header
	return nil
}

// getPrompt serves prompts/get.
func (q *request) getPrompt(ctx context.Context) error {
	name, ok := protocol.GetString(q.msg.Params, "name")
	if !ok {
		return q.needs("name")
	}
	q.rec.MCP.ClientName = name
	p, err := q.catalogue().find(ctx, prompts, q.msg.Method, name)
	if err != nil {
		return q.fail(prompts, name, err)
	}
	q.rec.MCP.Target, q.rec.MCP.Name = q.b.cfg.Targets[p.target].Name, p.own
	s := q.scope(p.target)
	return q.relay(ctx, &relayed{kind: prompts, target: p.target, name: name, edits: set(p.own, "name"),
		rewrite: func(result []byte) ([]byte, error) { return q.asComplete(promptResult(result, s)), nil }})
}

// readResource serves resources/read.
func (q *request) readResource(ctx context.Context) error {
	uri, ok := protocol.GetString(q.msg.Params, "uri")
	if !ok {
		return q.needs("uri")
	}
	q.rec.MCP.ClientName = uri
	target, own, err := q.catalogue().resolve(ctx, q.msg.Method, uri)
	if err != nil {
		return q.fail(resources, uri, err)
	}
	q.rec.MCP.Target, q.rec.MCP.URI = q.b.cfg.Targets[target].Name, own
	if q.lacks(ctx, target, "resources") {
		return q.unknown(resources, uri)
	}
	s := q.scope(target)
	return q.relay(ctx, &relayed{kind: resources, target: target, name: uri, edits: set(own, "uri"),
		rewrite: func(result []byte) ([]byte, error) { return q.asPrivate(readResult(result, s)), nil }})
}

// complete serves completion/complete for arguments of prompts and of resource
// templates.
func (q *request) complete(ctx context.Context) error {
	ref := protocol.Get(q.msg.Params, "ref")
	typ, _ := protocol.GetString(ref, "type")
	v := q.catalogue()
	nothing := []byte(`{"completion":{"values":[]}}`) // of a target that completes nothing
	completed := func(result []byte) ([]byte, error) { return q.asComplete(result), nil }
	switch typ {
	case "ref/prompt":
		name, ok := protocol.GetString(ref, "name")
		if !ok {
			return q.needs("ref.name")
		}
		p, err := v.find(ctx, prompts, q.msg.Method, name)
		if err != nil {
			return q.fail(prompts, name, err)
		}
		if q.lacks(ctx, p.target, "completions") {
			return q.result(q.asComplete(nothing))
		}
		return q.relay(ctx, &relayed{kind: prompts, target: p.target, name: name, edits: set(p.own, "ref", "name"), rewrite: completed})
	case "ref/resource":
		uri, ok := protocol.GetString(ref, "uri")
		if !ok {
			return q.needs("ref.uri")
		}
		target, own, err := v.resolve(ctx, q.msg.Method, uri)
		if err != nil {
			return q.fail(resources, uri, err)
		}
		if q.lacks(ctx, target, "completions") {
			return q.result(q.asComplete(nothing))
		}
		return q.relay(ctx, &relayed{kind: resources, target: target, name: uri, edits: set(own, "ref", "uri"), rewrite: completed})
	}
	return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.ref has no known type")
}

// leg returns the connection to a target: the session's own, or one that is
// leased for this call.
func (q *request) leg(ctx context.Context, target int) (leg *session.Leg, release func(), err error) {
	t := q.b.targets[target]
	if err := q.b.breakers[target].checkCall(&q.catalogue().entries[target].lister); err != nil {
		return nil, nil, fault.Wrap(fault.UpstreamUnreachable, err, "the server behind this request is not available: it does not answer")
	}
	release = func() {}
	if q.sess != nil {
		leg, err = q.sess.Leg(ctx, t, q.forward)
	} else if leg, err = t.Lease(ctx, q.client, q.forward); err == nil {
		release = leg.Release
	}
	q.b.breakers[target].heardFor(ctx, err)
	return leg, release, err
}

// discovery returns what a target says about itself, nil when that is not known. One
// that is left alone is not asked for it.
func (q *request) discovery(ctx context.Context, target int) *session.Discovery {
	if q.b.breakers[target].broken.Load() {
		return nil
	}
	d, err := q.b.targets[target].Discover(ctx, q.client, q.forward)
	if err != nil {
		return nil
	}
	return d
}

// lacks reports whether a target says that it does not have a capability. What is not
// known is for the target to tell.
func (q *request) lacks(ctx context.Context, target int, capability ...string) bool {
	d := q.discovery(ctx, target)
	return d != nil && !has(d.Capabilities, capability...)
}

// set returns the edit that puts a string at path.
func set(s string, path ...string) []protocol.Edit {
	return []protocol.Edit{{Path: path, Value: protocol.Quote(s)}}
}

// A relayed is a request on its way to one target.
type relayed struct {
	kind    kind
	target  int
	name    string          // what the client asked for, as it wrote it
	edits   []protocol.Edit // of the params
	params  []paramHeader   // the headers that mirror arguments
	rewrite func(result []byte) ([]byte, error)
	leg     *session.Leg // once there is one
	waits   bool         // for the task that the target makes of it
}

// operation returns what a request is to limits.
func (q *request) operation(r *relayed) policy.Operation {
	op := policy.Operation{Method: q.msg.Method}
	switch r.kind {
	case tools, prompts:
		op.Kind, op.Target, op.Name = features[r.kind].policy, q.rec.MCP.Target, q.rec.MCP.Name
	case resources:
		op.Kind, op.Target, op.Name = policy.Resource, q.rec.MCP.Target, q.rec.MCP.URI
	}
	return op
}

// reply answers with the result of the target.
func (q *request) reply(r *relayed, result []byte) error {
	out, err := r.rewrite(result)
	if err == nil {
		return q.result(out)
	}
	var rpc *protocol.Error
	switch {
	case errors.As(err, &rpc) && !isFault(err):
		return q.peerError(r, rpc)
	default:
		return q.targetFailed(err)
	}
}

// relay sends the request to its target, with the edits and the sealed state
// opened, passes on what precedes the response, and answers with the result as
// rewritten or with the target's own error.
func (q *request) relay(ctx context.Context, r *relayed) error {
	if done, err := q.guarded(ctx, r); done || err != nil {
		return err
	}
	edits, target := r.edits, r.target
	responses := protocol.Get(q.msg.Params, "inputResponses")
	raw := protocol.Get(q.msg.Params, "requestState")
	if raw != nil {
		sealed, _ := protocol.String(raw)
		state, ok := q.openState(target, sealed)
		own, isTargets := strings.CutPrefix(state, stateTarget)
		switch {
		case ok && isTargets:
			edits = append(edits, protocol.Edit{Path: []string{"requestState"}, Value: protocol.Quote(own)})
		case ok && state == stateURLs && urlsDeclined(responses):
			return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInvalidRequest, "the user did not agree to what the server needs"))
		case ok && state == stateURLs:
			edits = append(edits, protocol.Edit{Path: []string{"requestState"}})
		case ok:
			id, addr, _ := strings.Cut(strings.TrimPrefix(state, stateParked), "@")
			if q.b.hub.other(addr) {
				return q.b.hub.away(ctx, addr, invalidState())
			}
			if p := q.b.hub.take(id); p != nil {
				return q.resume(ctx, p, r)
			}
			fallthrough
		default:
			return invalidState()
		}
	}
	taken, err := policy.TakeOperation(ctx, q.operation(r))
	if err != nil {
		return err
	}
	leg, release, err := q.leg(ctx, target)
	if err != nil {
		taken.Release()
		return q.targetFailed(err)
	}
	r.leg = leg
	if leg.Era() == protocol.Legacy {
		// It knows neither.
		if raw != nil || responses != nil {
			edits = append(edits, protocol.Edit{Path: []string{"requestState"}}, protocol.Edit{Path: []string{"inputResponses"}})
		}
	} else if responses != nil {
		edits = append(edits, protocol.Edit{Path: []string{"inputResponses"}, Value: inputResponses(responses, q.scope(target))})
	}
	params := protocol.Splice(q.msg.Params, edits...)
	if q.era == protocol.Modern && leg.Era() == protocol.Legacy && q.takesInput() && asksClients(q.client.Capabilities) {
		return q.park(ctx, r, params, release)
	}
	defer release()
	sink := q.newSink(ctx, target, leg)
	defer sink.close()
	m, err := r.call(ctx, &session.Call{Method: q.msg.Method, Params: params, Forward: q.forward, Emit: sink.emit})
	if answered(err) {
		q.b.breakers[target].heard(nil)
	}
	if err != nil {
		return q.callFailed(ctx, err)
	}
	if m.Error != nil {
		return q.peerError(r, m.Error)
	}
	if leg.Era() == protocol.Modern && wantsInput(m.Result) {
		if !q.takesInput() {
			return q.targetFailed(errMalformedInput)
		}
		return q.inputRequired(ctx, r, sink, params, m.Result)
	}
	return q.reply(r, m.Result)
}

func invalidState() error {
	return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.requestState is not valid for this request")
}

// takesInput reports whether the answer to the request may be that input is required
// (2026-07-28, Multi Round-Trip Requests, Supported Requests).
func (q *request) takesInput() bool {
	switch q.msg.Method {
	case "tools/call", "prompts/get", "resources/read":
		return true
	default:
		return false
	}
}

// callFailed answers for a call that ended without a response. A legacy client
// that cancelled it expects none (2025-11-25, Cancellation).
func (q *request) callFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil && fault.Of(err).Code == fault.ClientGone {
		return fault.Wrap(fault.ClientGone, err, "the request was cancelled")
	}
	return q.targetFailed(err)
}

// peerError passes a target's error on, except for those that would tell what is
// denied from what is not there, and those that the client's era does not have.
func (q *request) peerError(r *relayed, e *protocol.Error) error {
	notFound := e.Code == protocol.CodeResourceNotFoundLegacy ||
		e.Code == protocol.CodeInvalidParams && q.msg.Method == "resources/read"
	switch {
	case r.kind == resources && notFound:
		return q.unknown(resources, r.name)
	case r.kind == task && e.Code == protocol.CodeInvalidParams && (q.era == protocol.Modern || q.msg.Method != "tasks/cancel"):
		// In the legacy era it may also say that the task can't be cancelled any more.
		return q.unknown(task, r.name)
	case q.era == protocol.Legacy:
		for one := range protocol.Elements(protocol.Get(e.Data, "elicitations")) {
			if id, ok := protocol.GetString(one, "elicitationId"); ok && q.live != nil {
				q.live.elicit(id)
			}
		}
		return q.refuse(http.StatusOK, e)
	case e.Code == protocol.CodeMissingClientCapability:
		return q.refuse(http.StatusBadRequest, e)
	case e.Code == protocol.CodeURLElicitationRequired:
		return q.urlsRequired(r, e)
	}
	return q.refuse(http.StatusOK, e)
}

// urlsRequired answers a modern client, whose revision does not have the error
// −32042, with what that error is about: input that is required.
func (q *request) urlsRequired(r *relayed, e *protocol.Error) error {
	requests, ok := urlsRequired(e)
	switch {
	case !ok:
		return q.targetFailed(errMalformedInput)
	case !has(q.client.Capabilities, "elicitation", "url"):
		return q.refuse(http.StatusBadRequest, protocol.MissingClientCapability([]byte(`{"elicitation":{"url":{}}}`)))
	}
	return q.result(protocol.Splice(nil,
		protocol.Edit{Path: []string{"resultType"}, Value: []byte(`"input_required"`)},
		protocol.Edit{Path: []string{"inputRequests"}, Value: requests},
		protocol.Edit{Path: []string{"requestState"}, Value: protocol.Quote(q.sealState(r.target, stateURLs))}))
}

// asComplete gives a result what every result of the modern era has.
func (q *request) asComplete(result []byte) []byte {
	if q.era != protocol.Modern || len(result) == 0 || result[0] != '{' || protocol.Get(result, "resultType") != nil {
		return result
	}
	return protocol.Splice(result, protocol.Edit{Path: []string{"resultType"}, Value: []byte(`"complete"`)})
}

// asPrivate also says that no cache may share the result between callers, and for how
// long the caller may keep it: as long as the target says, unless the result is an
// answer to input of the client (2026-07-28, Caching).
func (q *request) asPrivate(result []byte) []byte {
	if q.era != protocol.Modern || len(result) == 0 || result[0] != '{' {
		return result
	}
	ttl, ok := protocol.TTL(result)
	if q.retried() {
		ttl, ok = 0, false
	}
	edits := []protocol.Edit{{Path: []string{"cacheScope"}, Value: []byte(`"private"`)}}
	if !ok || ttl == 0 {
		edits = append(edits, protocol.Edit{Path: []string{"ttlMs"}, Value: []byte("0")})
	}
	return protocol.Splice(q.asComplete(result), edits...)
}

// retried reports whether the request brings what a server asked for.
func (q *request) retried() bool {
	return protocol.Get(q.msg.Params, "inputResponses") != nil || protocol.Get(q.msg.Params, "requestState") != nil
}

// denied notes for the operator that a rule refused the operation, which the
// client is not told.
func (q *request) denied(err error) {
	var d *denial
	if errors.As(err, &d) {
		q.rec.ErrorType, q.rec.Err = fault.Denied.String(), d
	}
}
