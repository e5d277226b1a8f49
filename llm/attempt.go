package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/price"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An attempt is one query at one provider.
type attempt struct {
	*query
	provider *Provider
	vendor   vendor
	speaks   form   // in which the provider is asked
	named    string // the model that it is asked for
	same     bool   // bytes are passed: both sides speak the same dialect
	hide     bool   // the usage that the client did not ask for

	dialect providerDialect
	within  context.Context // of the query, within the span of the attempt
	sent    time.Time
	content time.Time      // when the first content came; zero while there is none
	refused *dialect.Error // the provider's no, which the client got
	broken  bool           // the answer broke after the client had a part of it
	losses  []string       // what of the request or the answer is lost
}

// prepare returns the body to send, or several where the provider takes less at once than the
// client asks for. Its errors are for the client.
func (a *attempt) prepare() (bodies []payload, err error) {
	a.named = cmp.Or(a.provider.Model, a.model)
	if a.named == "" {
		return nil, invalid(dialect.Invalid("model", "model is required: neither the request nor the configuration names one"))
	}
	if v, ok := a.vendor.(namer); ok {
		a.named = v.named(a.provider, a.speaks, a.named)
	}
	a.dialect = a.speaks.provider()
	if a.same = a.speaks == a.form && !a.body.HasForeign(); a.same {
		body, err := a.patch()
		return []payload{body}, err
	}
	done, err := a.turn(a.ctx, len(a.body.Raw))
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := a.canonical()
	if err != nil {
		return nil, invalid(err)
	}
	var dropped []string
	for part := range a.parts(r) {
		c := dialect.Carry(part, a.named, a.origin())
		if a.speaks == a.form {
			c.Native = a.form.native()
		}
		body, err := a.dialect.EncodeRequest(c)
		if err != nil {
			return nil, invalid(err)
		}
		dropped = append(dropped, c.Dropped()...)
		if v, ok := a.vendor.(patcher); ok {
			wire, err := dialect.ParseBody(body)
			if err != nil {
				return nil, fault.Wrap(fault.Internal, err, "internal error")
			}
			patches, more := v.patches(a, wire)
			body, dropped = wire.Patched(patches...), append(dropped, more...)
		}
		bodies = append(bodies, payload{pieces: [][]byte{body}})
	}
	if len(bodies) > 1 {
		slices.Sort(dropped)
		dropped = slices.Compact(dropped)
	}
	if len(a.body.Raw) > largeBody && !a.form.embeds() {
		a.said.read = nil // it is read again for the next provider, rather than held while this one is asked
	}
	return bodies, a.account(dropped)
}

// account tells the client what of its request does not reach the provider, or refuses it for
// that.
func (a *attempt) account(dropped []string) error {
	if len(dropped) > 0 && a.cfg.Strict {
		return invalid(dialect.Invalid(dropped[0], "the provider can't express "+strings.Join(dropped[:min(len(dropped), 10)], ", ")))
	}
	a.losses = dropped
	a.dropped(dropped)
	return nil
}

// origin returns whose signatures the provider makes.
func (a *attempt) origin() string {
	if v, ok := a.vendor.(originator); ok {
		return v.origin(a)
	}
	return a.vendor.name()
}

// invalid returns an error of the request as a fault.
func invalid(err error) error {
	return fault.Wrap(fault.BadRequest, err, "the request is invalid")
}

// patch returns the client's bytes with the little that must change.
func (a *attempt) patch() (payload, error) {
	var patches []dialect.Patch
	var dropped []string
	if v, ok := a.vendor.(patcher); ok {
		patches, dropped = v.patches(a, a.body)
	}
	elsewhere := slices.ContainsFunc(patches, func(p dialect.Patch) bool { return p.Name == "model" })
	if a.named != a.asked && !a.speaks.pathNames() && !elsewhere {
		patches = append(patches, dialect.Patch{Name: "model", Value: dialect.String(a.named)})
	}
	if a.speaks == chat && a.stream {
		if v, asked := withUsage(a.body.Get("stream_options")); !asked {
			patches = append(patches, dialect.Patch{Name: "stream_options", Value: v})
			a.hide = true
		}
	}
	return payload{a.body.Spliced(patches...), a.lent}, a.account(dropped)
}

// withUsage returns the options of a stream with include_usage, and whether the client had
// asked for it.
func withUsage(options jsontext.Value) (v jsontext.Value, asked bool) {
	var out dialect.Object
	dialect.Members(options, func(name string, v jsontext.Value) {
		if name == "include_usage" {
			asked = v.Kind() == 't'
			return
		}
		out.Set(name, v)
	})
	out.Set("include_usage", jsontext.Value("true"))
	return out.Value(), asked
}

// send sends what was prepared and answers the client.
func (a *attempt) send(bodies []payload) (*failure, error) {
	if len(bodies) > 1 {
		return a.gather(bodies)
	}
	ctx, cancel := context.WithCancelCause(a.within)
	defer cancel(nil)
	r, err := a.request(ctx, bodies[0])
	if err != nil {
		return nil, err
	}
	limit, slow := a.cfg.Clocks.Total, errTotal
	if a.stream {
		limit, slow = a.cfg.Clocks.FirstContent, errFirstContent
	}
	a.sent = time.Now()
	clock := time.AfterFunc(limit, func() { cancel(slow) })
	defer clock.Stop()
	resp, err := a.provider.RoundTripper.RoundTrip(r)
	if err != nil {
		return a.lost(err)
	}
	defer func() { _ = resp.Body.Close() }() // all that can be learned was learned by reading
	if resp.StatusCode != http.StatusOK {
		return a.no(resp)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		return failed(fmt.Errorf("the answer has Content-Encoding %q, which was not asked for", e)), nil
	}
	if !a.stream {
		return a.whole(resp)
	}
	if typ, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); typ != a.framing().mediaType {
		return failed(fmt.Errorf("the answer has Content-Type %q, not %s", resp.Header.Get("Content-Type"), a.framing().mediaType)), nil
	}
	s := stream{attempt: a, clock: clock, cancel: cancel}
	f, err := s.pass(resp)
	if err == nil {
		err = s.out.flush()
	}
	return f, err
}

// request returns the request to the provider.
func (a *attempt) request(ctx context.Context, body payload) (*http.Request, error) {
	target := a.vendor.target(a.provider, a.speaks, a.named, a.stream)
	if a.provider.Path != "" {
		target = a.provider.Path
	}
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json"},
	}
	if a.stream {
		h["Accept"] = []string{a.framing().mediaType}
	}
	pass(h, a.header, "User-Agent", "Accept-Language", "Traceparent", "Tracestate", "Idempotency-Key", "X-Request-Id")
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // or net/http sends its own
	}
	for name, values := range a.header {
		if strings.HasPrefix(name, "X-Stainless-") { // what the official clients say of themselves
			h[name] = values
		}
	}
	telemetry.Propagate(ctx, h)
	a.vendor.headers(a, h)
	r, err := a.outgoing(ctx, http.MethodPost, target, h)
	if err != nil {
		return nil, err
	}
	r.ContentLength, r.GetBody = body.size(), body.open
	r.Body, _ = r.GetBody()
	return r, nil
}

// outgoing returns a request to the provider with its credential and no body.
func (a *attempt) outgoing(ctx context.Context, method, target string, h http.Header) (*http.Request, error) {
	p := a.provider
	u, err := url.Parse("http://" + p.Host + p.prefixed(target))
	if err != nil {
		return nil, fault.Wrap(fault.Misconfigured, err, "the configuration of this provider is invalid")
	}
	token := p.Credential.Token.Reveal()
	if p.Credential.Passthrough {
		if token = clientToken(a.header); token == "" {
			return nil, fault.New(fault.Unauthenticated, "send your API key of the provider in the header Authorization: Bearer KEY")
		}
	}
	header, prefix := a.vendor.credential(p, token)
	if p.Credential.Header != "" {
		header = http.CanonicalHeaderKey(p.Credential.Header)
	}
	if p.Credential.Prefix != nil {
		prefix = *p.Credential.Prefix
	}
	if token != "" { // else the RoundTripper has one
		h[header] = []string{prefix + token}
	}
	return (&http.Request{Method: method, URL: u, Host: p.Host, Header: h}).WithContext(ctx), nil
}

// prefixed returns a target of the vendor's API as the provider has it.
func (p *Provider) prefixed(target string) string {
	if p.Prefix == "" {
		return target
	}
	_, rest, _ := strings.Cut(target[1:], "/")
	return strings.TrimSuffix(p.Prefix, "/") + "/" + rest
}

// pass copies headers of the client.
func pass(out, in http.Header, names ...string) {
	for _, n := range names {
		if v, ok := in[n]; ok {
			out[n] = v
		}
	}
}

// clientToken returns the credential that a client shows, in whichever header its dialect
// has it.
func clientToken(h http.Header) string {
	if v := h.Get("Authorization"); len(v) > 7 && strings.EqualFold(v[:7], "Bearer ") {
		return strings.TrimSpace(v[7:])
	}
	for _, name := range []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// lost says what an error of the connection means: the client's own end of it ends the
// query, anything else is the provider's failure.
func (a *attempt) lost(err error) (*failure, error) {
	if a.ctx.Err() != nil {
		return nil, context.Cause(a.ctx)
	}
	f := fault.Of(err)
	switch f.Code {
	case fault.UpstreamUnreachable:
		return &failure{err: err, unreachable: true}, nil
	case fault.UpstreamTimeout:
		return &failure{err: err}, nil
	default:
		return failed(err), nil
	}
}

var errTooLarge = errors.New("the answer is larger than the gateway holds")

// readAll reads a body up to limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errTooLarge
	}
	return b, err
}

// whole answers with an answer that is not streamed.
func (a *attempt) whole(resp *http.Response) (*failure, error) {
	body, err := readAll(resp.Body, maxAnswer)
	if err != nil {
		return a.lost(err)
	}
	r, err := a.decode(resp.Header, body)
	if err == nil {
		err = a.complete(r, 0)
	}
	if err != nil {
		return a.unread(err, resp.Header, body)
	}
	return a.answered(r, resp.Header, body)
}

// decode reads an answer.
func (a *attempt) decode(h http.Header, body []byte) (*dialect.Response, error) {
	r, err := a.dialect.DecodeResponse(body)
	if err != nil {
		return nil, err
	}
	if v, ok := a.vendor.(meter); ok && !r.Usage.Known {
		r.Usage = v.metered(h)
	}
	return r, nil
}

// unread takes what is no answer: an error with the wrong status, or something else.
func (a *attempt) unread(err error, h http.Header, body []byte) (*failure, error) {
	var e *dialect.Error
	if errors.As(err, &e) {
		return a.says(e, h, body)
	}
	return failed(fmt.Errorf("reading the answer: %w", err)), nil
}

// answered answers with an answer that was read, of which body are the bytes.
func (a *attempt) answered(r *dialect.Response, h http.Header, body []byte) (*failure, error) {
	var err error
	if r.Model == "" && a.form.embeds() {
		r.Model = a.named // which not all say again
	}
	if !a.form.counts() { // which costs nothing
		a.note(r.Model, r.Usage)
		a.price()
	}
	if len(r.Choices) > 0 {
		a.rec.LLM.FinishReason = r.Choices[0].Reason.String()
	}
	if a.same {
		if body, err = a.guardBody(body); err != nil {
			return nil, a.unfit(err)
		}
	} else {
		if err = a.guardResponse(r); err != nil {
			return nil, a.unfit(err)
		}
		if body, err = a.codec.EncodeResponse(r, a.writerOptions()); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "internal error")
		}
		for _, path := range r.Lost {
			a.lose(path)
		}
	}
	if !a.same || len(a.losses) > 0 {
		a.dropped(a.losses)
	}
	return nil, a.respond(h, body)
}

// writerOptions say how the answer is written.
func (a *attempt) writerOptions() dialect.WriterOptions {
	o := dialect.WriterOptions{Usage: a.usage, Origin: a.origin(), Lost: a.lose}
	if a.read != nil {
		o.Base64 = a.read.Base64
	}
	return o
}

// lose notes that what stands at path in the answer does not reach the client.
func (a *attempt) lose(path string) {
	if path = "answer." + path; len(a.losses) < maxLosses && !slices.Contains(a.losses, path) {
		a.losses = append(a.losses, path)
	}
}

// respond sends an answer that is not streamed.
func (a *attempt) respond(h http.Header, body []byte) error {
	a.delivered = true
	answerHeaders(a.out.w.Header(), h)
	if a.out.cost && a.rec.LLM.Priced {
		a.out.costs(price.Nano(a.rec.LLM.Cost))
	}
	a.out.w.Header()["Content-Type"] = []string{"application/json"}
	a.out.w.WriteHeader(http.StatusOK)
	if _, err := a.out.w.Write(body); err != nil {
		return gone(err)
	}
	return nil
}

// note keeps for the record what an answer says about itself.
func (a *attempt) note(model string, u dialect.Usage) {
	if model != "" {
		a.rec.LLM.ResponseModel = model
	}
	if u.Known {
		a.rec.LLM.Usage = telemetry.TokenUsage(u)
	}
}

// answerHeaders passes on what a provider says beside its answer.
func answerHeaders(out, in http.Header) {
	for name, values := range in {
		switch {
		case name == "Retry-After", name == "Retry-After-Ms", name == "Request-Id",
			strings.HasPrefix(name, "X-Ratelimit-"), strings.HasPrefix(name, "Anthropic-Ratelimit-"), strings.HasPrefix(name, "Openai-"):
			out[name] = values
		}
	}
}

func gone(err error) error {
	return fault.Wrap(fault.ClientGone, err, "the client closed the request")
}
