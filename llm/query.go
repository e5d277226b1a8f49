package llm

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/price"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A query is one request of a client on its way to an answer.
type query struct {
	*Backend
	ctx    context.Context
	header http.Header // of the client's request
	rec    *telemetry.Record
	form   form // of the client
	codec  codec
	op     operation

	sent   *dialect.Body // as the client sent it
	lent   *lent         // in which its bytes are; nil for a small one
	policy *Policy       // under which it is asked
	*said                // what is asked under it
	under  map[*Policy]*said
	groups [][]*Provider // that may be asked
	usage  bool          // the client of a stream asked for the usage

	delivered bool // the client got some of an answer

	out    output
	writer dialect.StreamWriter // what writes the stream, once it is translated
}

// Serve answers a request. Errors before the first byte are returned and rendered by
// [Backend.WriteError]; what goes wrong afterwards is said in the answer.
func (b *Backend) Serve(w http.ResponseWriter, r *http.Request) error {
	op := b.operationOf(r)
	if op.fault != nil {
		return op.fault
	}
	switch op.kind {
	case Models:
		return b.serveModels(w, r, &op)
	case Passthrough:
		return b.servePassthrough(w, r, &op)
	case Realtime:
		return b.serveRealtime(w, r, &op)
	default:
	}
	rec := telemetry.FromContext(r.Context())
	rec.LLM.Operation = op.form.operation()
	q := &query{Backend: b, ctx: r.Context(), header: r.Header, rec: rec, form: op.form, codec: op.codec(), op: op}
	defer func() { q.lent.done() }()
	if err := q.readBody(w, r); err != nil {
		return err
	}
	q.out = output{w: w, rc: http.NewResponseController(w), clocks: &b.cfg.Clocks, array: op.array, cost: b.cfg.ShowCost}
	if err := q.follow(policyOf(q.ctx)); err != nil {
		if no := rejection(err); no != nil {
			return q.refuse(no)
		}
		return err
	}
	q.groups = q.said.groups
	rec.LLM.RequestModel, rec.LLM.Stream = q.asked, q.stream
	if q.form == embed {
		rec.LLM.Dimensions, rec.LLM.Encoding = number(q.body.Get("dimensions")), q.body.String("encoding_format")
	}
	if q.stream {
		q.out.watch()
	}
	defer q.out.end()
	taken, err := q.reserve()
	if err != nil {
		return err
	}
	defer q.spend(taken)
	err = q.answer(q.ask)
	if err != nil && q.out.open() && fault.Of(err).Code != fault.ClientGone {
		return q.out.fail(q, failed(err))
	}
	return err
}

// readBody reads and checks the body of a request.
func (q *query) readBody(w http.ResponseWriter, r *http.Request) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return fault.New(fault.UnsupportedMedia, "the Content-Encoding %q is not served: send the body as it is", e)
	}
	raw, l, err := readBody(http.MaxBytesReader(w, r.Body, maxBody), r.ContentLength)
	q.lent = l
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.New(fault.TooLarge, "the request is larger than %d MiB", maxBody>>20)
	case err != nil && q.ctx.Err() != nil:
		return context.Cause(q.ctx)
	case err != nil:
		var f *fault.Fault
		if errors.As(err, &f) {
			return f
		}
		return fault.Wrap(fault.BadRequest, err, "the request body could not be read")
	}
	if q.sent, err = dialect.ParseBody(raw, known[:]...); err != nil {
		return fault.New(fault.BadRequest, "%s", err)
	}
	return nil
}

// known are the members of requests that nothing else may look like.
var known = [...]string{"model", "messages", "stream", "stream_options", "tools", "contents", "system", "input", "content", "requests"}

// answer asks one provider after the other until one answers.
func (q *query) answer(ask func(*Provider) (*failure, error)) error {
	var tried []*Provider
	var last *failure
	for p := next(q.groups, nil); p != nil; p = next(q.groups, tried) {
		tried = append(tried, p)
		f, err := ask(p)
		if f == nil {
			return err
		}
		if f.unable {
			if last == nil {
				last = f // what a provider that was asked says tells more
			}
			continue
		}
		last = f
		if out := p.Health.fail(f, time.Now()); out {
			q.cfg.Logger.Warn("LLM provider left out", "backend", q.cfg.Name, "provider", p.label(), "reason", f.err)
		}
	}
	return q.giveUp(last)
}

// permitted returns an error if the rules for the provider refuse the request.
func (p *Provider) permitted(ctx context.Context) error {
	if !p.Ruled {
		return nil
	}
	return policy.Authorize(ctx, policy.Operation{Target: p.Name})
}

// ask sends the query to one provider and answers the client with what comes. It returns
// a failure when another provider may be asked, for nothing was sent to the client yet.
func (q *query) ask(p *Provider) (*failure, error) {
	rec := q.rec
	rec.LLM.Provider, rec.LLM.Name = p.Vendor.String(), p.Name
	rec.LLM.ResponseModel, rec.LLM.FinishReason, rec.LLM.Usage = "", "", telemetry.TokenUsage{} // of an attempt before
	rec.LLM.Cost, rec.LLM.Priced, rec.LLM.FirstToken, rec.LLM.Streaming = 0, false, 0, 0
	if p.Fault != nil {
		return &failure{err: p.Fault, unable: true}, nil
	}
	if err := p.permitted(q.ctx); err != nil {
		p.Health.unclaim()
		return &failure{err: err, unable: true}, nil
	}
	if err := q.follow(policyOf(q.ctx).at(p.Name)); err != nil {
		p.Health.unclaim()
		if no := rejection(err); no != nil && !q.out.open() {
			return nil, q.refuse(no)
		}
		return nil, err
	}
	a := &attempt{query: q, provider: p, vendor: vendorOf(p.Vendor)}
	var ok bool
	if a.speaks, ok = a.vendor.speaks(p, q.form, cmp.Or(p.Model, q.model)); !ok {
		p.Health.unclaim()
		return &failure{err: fault.New(fault.NotImplemented, "the provider does not serve %s", q.form.operation()), unable: true}, nil
	}
	body, err := a.prepare()
	if err != nil {
		p.Health.unclaim()
		var e *dialect.Error
		if errors.As(err, &e) && e.Elsewhere {
			return &failure{err: err, unable: true}, nil
		}
		return nil, err
	}
	rec.LLM.SentModel = a.named
	rec.Attempts++
	rec.UpstreamHost = p.Host
	p.Health.active.Add(1)
	defer p.Health.active.Add(-1)
	var call *telemetry.Call
	a.within, call = telemetry.StartCall(q.ctx, q.form.operation()+" "+a.named)
	f, err := a.send(body)
	a.settle(f)
	if f == nil && a.stream && q.out.cost && rec.LLM.Priced {
		q.out.costs(price.Nano(rec.LLM.Cost))
	}
	call.LLM(rec.LLM, p.Host)
	call.End(a.errorType(f, err))
	if f == nil && a.stream && len(a.losses) > 0 {
		a.dropped(a.losses) // the header has gone, but the log and the metrics have it
	}
	switch {
	case f != nil:
		q.cfg.Metrics.LLMAttempt(q.cfg.Name, p.label(), "failed")
	case err == nil && a.refused != nil:
		p.Health.answered()
		q.cfg.Metrics.LLMAttempt(q.cfg.Name, p.label(), "refused")
	case err == nil && a.broken:
		q.cfg.Metrics.LLMAttempt(q.cfg.Name, p.label(), "broken")
	case err == nil:
		p.Health.answered()
		q.cfg.Metrics.LLMAttempt(q.cfg.Name, p.label(), "answered")
	default:
		p.Health.unclaim()
	}
	return f, err
}

// canonical returns the request in canonical form.
func (q *query) canonical() (*dialect.Request, error) {
	if q.read != nil {
		return q.read, nil
	}
	r, err := q.codec.DecodeRequest(q.body.Raw)
	if err != nil {
		return nil, err
	}
	if r.Model != "" && r.Model != strings.TrimPrefix(q.asked, "models/") {
		return nil, dialect.Invalid("model", "the request is for another model than its path")
	}
	r.Model, r.Stream = q.model, q.stream
	q.said.read, q.usage = r, r.Usage
	return r, nil
}

// dropped tells the client what of its request does not reach the provider, and what of
// the answer does not reach it itself.
func (q *query) dropped(paths []string) {
	named, size := []string{}, 0
	for _, p := range paths {
		p = strings.Map(func(r rune) rune { // a member's name may be anything
			if r <= ' ' || r > '~' || r == ',' {
				return '_'
			}
			return r
		}, p)
		if size += len(p) + 2; size > maxNamed {
			named = append(named, "...")
			break
		}
		named = append(named, p)
	}
	q.rec.LLM.Dropped = strings.Join(named, ",")
	q.out.head(func(h http.Header) {
		delete(h, "X-Mcpgw-Dropped")
		if len(named) > 0 {
			h["X-Mcpgw-Dropped"] = []string{strings.Join(named, ", ")}
		}
	})
}
