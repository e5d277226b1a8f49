package policy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// ErrRerouted is what [Policy.Admit] returns for a request that a service has changed such that its route is to be
// chosen again. It is then admitted again by what covers that route, whose checks are asked as far as
// they have not passed it yet.
var ErrRerouted = errors.New("the route is to be chosen again")

// Changes are what became of a request since it was accepted, so that a replica that it is passed on to neither asks services
// nor intercepts it again.
type Changes struct {
	Headers  []extension.HeaderChange `json:"headers,omitempty"`
	Method   string                   `json:"method,omitempty"` // "" stays
	Target   string                   `json:"target,omitempty"` // path and query; "" stays
	Rerouted bool                     `json:"rerouted,omitempty"`
	Resent   bool                     `json:"resent,omitempty"` // see [Request.Resend]
	// Metadata is what services tell of the request, by namespace.
	Metadata map[string]map[string]any `json:"metadata,omitempty"`
}

// difference returns what has changed of a request.
func difference(before, after *http.Request) (c Changes) {
	if before == after {
		return c
	}
	if after.Method != before.Method {
		c.Method = after.Method
	}
	if target := after.URL.RequestURI(); target != before.URL.RequestURI() {
		c.Target = target
	}
	for _, name := range slices.Sorted(maps.Keys(before.Header)) {
		if after.Header[name] == nil {
			c.Headers = append(c.Headers, extension.HeaderChange{Name: name, Action: extension.Remove})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after.Header)) {
		action := extension.Overwrite
		if slices.Equal(before.Header[name], after.Header[name]) {
			continue
		}
		for _, v := range after.Header[name] {
			c.Headers = append(c.Headers, extension.HeaderChange{Name: name, Value: v, Action: action})
			action = extension.Append
		}
	}
	return c
}

type interceptedKey struct{}

// WithIntercepted returns a context for an admitted request that goes on as r, since it was changed on its way.
func WithIntercepted(ctx context.Context, r *http.Request) context.Context {
	return context.WithValue(ctx, interceptedKey{}, r)
}

// ChangesOf returns what became of the request that was admitted as ctx; nil for nothing.
func ChangesOf(ctx context.Context) *Changes {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil {
		return nil
	}
	req := a.request
	now, ok := ctx.Value(interceptedKey{}).(*http.Request)
	if !ok {
		now = req.HTTP
	}
	c := difference(req.accepted, now)
	c.Rerouted, c.Resent, c.Metadata = req.rerouted, req.resent, req.Metadata.All()
	if len(c.Headers)+len(c.Method)+len(c.Target)+len(c.Metadata) == 0 {
		return nil
	}
	return &c
}

// Tell adds to what services tell of the request, as [telemetry.Metadata.Add] does.
func (req *Request) Tell(namespace string, members map[string]any) error {
	if len(members) == 0 {
		return nil
	}
	if req.Metadata == nil {
		req.Metadata = new(telemetry.Metadata)
	}
	return req.Metadata.Add(namespace, members)
}

// changeHeaders applies changes. The request as it was accepted stays as it is.
func (req *Request) changeHeaders(changes []extension.HeaderChange) {
	if len(changes) == 0 {
		return
	}
	r := req.HTTP.WithContext(req.HTTP.Context())
	r.Header = maps.Clone(r.Header)
	for i := range changes {
		changes[i].ApplyTo(r.Header)
		req.release(&changes[i])
	}
	req.HTTP = r
}

// changeQuery applies changes, as changeHeaders does.
func (req *Request) changeQuery(changes []extension.QueryChange) {
	if len(changes) == 0 {
		return
	}
	r := req.HTTP.WithContext(req.HTTP.Context())
	u := *r.URL
	u.RawQuery = extension.ChangeQuery(u.RawQuery, changes)
	r.URL, r.RequestURI = &u, u.RequestURI()
	req.HTTP = r
}

// release has a header be sent on that a service has set in place of a credential for the gateway.
func (req *Request) release(c *extension.HeaderChange) {
	if c.Action != extension.Overwrite && c.Action != extension.OverwriteIfPresent {
		return
	}
	if i := slices.Index(req.Consumed, c.Name); i >= 0 {
		req.Consumed = slices.Delete(slices.Clone(req.Consumed), i, i+1)
	}
}

// Resend has the request be one that came as r, which a service has made of it: who sent it is to be established again, no
// check has passed it, and nothing is added to the answer. What services tell of it stays.
func (req *Request) Resend(r *http.Request) {
	req.HTTP, req.Client, req.Response, req.settled, req.resent = r, Client{Principal: anonymous}, nil, nil, true
}

// anonymous is the principal of a request of which nothing was established.
const anonymous = "anonymous"

// settle notes that the request has passed checks, which are not asked again.
func (req *Request) settle(checks []Check) {
	req.settled = append(slices.Clip(req.settled), checks...)
}

// carried applies what another replica says that became of the request, once what authenticates has seen it as it
// was accepted.
func (req *Request) carried(checks []Check) error {
	c := req.Carried
	if c == nil {
		return nil
	}
	req.Carried = nil
	for namespace, members := range c.Metadata {
		if err := req.Tell(namespace, members); err != nil {
			return fault.Wrap(fault.BadRequest, err, "another replica's request is malformed")
		}
	}
	req.changeHeaders(c.Headers)
	if c.Method+c.Target != "" {
		r := req.HTTP.WithContext(req.HTTP.Context())
		if c.Method != "" {
			r.Method = c.Method
		}
		if c.Target != "" {
			u, err := url.ParseRequestURI(c.Target)
			if err != nil {
				return fault.Wrap(fault.BadRequest, err, "another replica's request is malformed")
			}
			r.URL, r.RequestURI = u, c.Target
		}
		req.HTTP = r
	}
	switch {
	case c.Resent:
		req.Resend(req.HTTP)
		return ErrRerouted
	case c.Rerouted:
		req.settle(checks)
		return ErrRerouted
	}
	return nil
}

// ApplyResponse has the answer say what services add to it.
func (req *Request) ApplyResponse(h http.Header) {
	for i := range req.Response {
		req.Response[i].ApplyTo(h)
	}
}
