package llm

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A Policy changes and checks the requests of a client, and the answers that it gets. Field
// defaults come first, then the enrichment, then the guard of prompts: what is added is
// checked, too. All work on the body in the dialect of the client, once a request, so that every
// provider that is asked gets the same. It is immutable and safe for concurrent use.
type Policy struct {
	Defaults   []FieldDefault
	Enrichment Enrichment
	Prompt     *guard.Prompt // nil checks nothing
	Answer     *guard.Answer // nil checks nothing
	// Providers are the policies that hold in place of this one when the provider of that
	// name is asked.
	Providers map[string]*Policy
}

type policyKey struct{}

// WithPolicy adds the policy for the chosen backend to the context of a request.
func WithPolicy(ctx context.Context, p *Policy) context.Context {
	return context.WithValue(ctx, policyKey{}, p)
}

// policyOf returns the policy of a request, an empty one when there is none.
func policyOf(ctx context.Context) *Policy {
	if p, ok := ctx.Value(policyKey{}).(*Policy); ok {
		return p
	}
	return &Policy{}
}

// at returns the policy that holds when a provider is asked.
func (p *Policy) at(provider string) *Policy {
	if own := p.Providers[provider]; own != nil {
		return own
	}
	return p
}

// A said is what a client said, as a policy has it.
type said struct {
	body   *dialect.Body
	asked  string        // the model, as the client wrote it
	model  string        // the same, as the providers know it
	groups [][]*Provider // that may be asked for it
	stream bool
	read   *dialect.Request // the body in canonical form, once it was needed
	err    error
}

// follow has the query say what it says under the policy, which was made of the client's body once.
func (q *query) follow(p *Policy) error {
	if q.policy == p {
		return nil
	}
	if q.under == nil {
		q.under = map[*Policy]*said{}
	}
	s := q.under[p]
	if s == nil {
		s = &said{body: q.sent}
		s.err = q.apply(p, s)
		q.under[p] = s
	}
	if s.err != nil {
		return s.err
	}
	q.policy, q.said = p, s
	return nil
}

// apply makes of the client's body what is sent.
func (q *query) apply(p *Policy, s *said) error {
	for _, change := range []func(*Policy, *dialect.Body) ([]byte, error){q.setFields, q.enrich, q.guardPrompt} {
		raw, err := change(p, s.body)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		if s.body, err = dialect.ParseBody(raw, known[:]...); err != nil {
			return fault.New(fault.BadRequest, "with what the configuration adds, %s", err)
		}
	}
	s.asked, s.stream = s.body.String("model"), s.body.True("stream")
	switch {
	case q.op.form.pathNames():
		s.asked, s.stream = q.op.model, q.op.stream
	case q.op.form.embeds():
		s.stream = false
	}
	var err error
	if s.groups, s.model, err = q.choose(s.asked); err != nil {
		return err
	}
	if s.groups = q.takers(s.groups, &q.op); len(s.groups) == 0 {
		return fault.New(fault.NotImplemented, "no provider of this model is routed to for %.200s", q.op.path)
	}
	if q.said != nil && s.stream != q.stream {
		return fault.New(fault.Misconfigured, "fieldDefaults of a provider can't say whether an answer is streamed")
	}
	return nil
}

// refuse answers a client whose prompt or answer does not pass: in plain text, as it is
// configured.
func (q *query) refuse(no *guard.Rejection) error {
	q.rec.ErrorType, q.rec.Err = "guard_"+no.By, no
	h := q.out.w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h.Del("Content-Length")
	q.out.w.WriteHeader(no.Status)
	if _, err := q.out.w.Write([]byte(no.Message)); err != nil {
		return gone(err)
	}
	return nil
}

// rejection returns the rejection that err is, nil if it is something else.
func rejection(err error) *guard.Rejection {
	var no *guard.Rejection
	errors.As(err, &no)
	return no
}

// credentialed adds what the client shows to the context of its checks.
func credentialed(ctx context.Context, h http.Header) context.Context {
	return guard.WithCredential(ctx, clientToken(h))
}
