package policy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// ErrRerouted is what [Policy.Admit] returns for a request that a service has changed such that its route is to be
// chosen again. It is then admitted again by what covers that route, whose checks are asked as far as
// they have not passed it yet.
var ErrRerouted = errors.New("the route is to be chosen again")

// Changes are what services change in a request, so that a replica that it is passed on to does not ask them
// again.
type Changes struct {
	Headers  []extension.HeaderChange `json:"headers,omitempty"`
	Query    []extension.QueryChange  `json:"query,omitempty"`
	Rerouted bool                     `json:"rerouted,omitempty"`
	// Metadata is what they tell of the request, by namespace.
	Metadata map[string]map[string]any `json:"metadata,omitempty"`
}

// ChangesOf returns what services changed in the request that was admitted as ctx; nil for nothing.
func ChangesOf(ctx context.Context) *Changes {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil {
		return nil
	}
	c, told := a.request.changes, a.request.Metadata.All()
	if len(told) == 0 {
		return c
	}
	out := Changes{Metadata: told}
	if c != nil {
		out.Headers, out.Query, out.Rerouted = c.Headers, c.Query, c.Rerouted
	}
	return &out
}

// Tell adds to what services tell of the request, as [telemetry.Metadata.Add] does.
func (req *Request) Tell(namespace string, members map[string]any) error {
	if req.Metadata == nil {
		req.Metadata = new(telemetry.Metadata)
	}
	return req.Metadata.Add(namespace, members)
}

// change applies c to the request, and notes it. The request as it was accepted stays as it is.
func (req *Request) change(c *Changes) error {
	for namespace, members := range c.Metadata {
		if err := req.Tell(namespace, members); err != nil {
			return err
		}
	}
	if len(c.Headers)+len(c.Query) > 0 {
		r := req.HTTP.WithContext(req.HTTP.Context())
		if len(c.Headers) > 0 {
			r.Header = maps.Clone(r.Header)
			for i := range c.Headers {
				c.Headers[i].ApplyTo(r.Header)
				req.release(&c.Headers[i])
			}
		}
		if len(c.Query) > 0 {
			u := *r.URL
			u.RawQuery = extension.ChangeQuery(u.RawQuery, c.Query)
			r.URL, r.RequestURI = &u, u.RequestURI()
		}
		req.HTTP = r
	}
	if req.changes == nil {
		req.changes = new(Changes)
	}
	all := req.changes
	all.Headers = append(all.Headers, c.Headers...)
	all.Query = append(all.Query, c.Query...)
	all.Rerouted = all.Rerouted || c.Rerouted
	return nil
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

// Rerouted returns the request as it is asked about at another route that was chosen for it as r: who calls is to be established
// anew, and what services have changed and told of it stays.
func (req *Request) Rerouted(r *http.Request, at Endpoint) Request {
	return Request{
		HTTP: r, ID: req.ID, Time: req.Time, Host: req.Host, Scheme: req.Scheme, Source: req.Source, Endpoint: at, Gateway: req.Gateway, Passed: req.Passed,
		Metadata: req.Metadata, Response: req.Response, changes: req.changes,
	}
}

// settle notes that the request has passed checks, which are not asked again.
func (req *Request) settle(checks []Check) {
	req.settled = append(slices.Clip(req.settled), checks...)
}

// changed applies what another replica says that services changed, once what authenticates has seen the request as it
// was accepted.
func (req *Request) changed(checks []Check) error {
	c := req.Carried
	if c == nil {
		return nil
	}
	req.Carried = nil
	if err := req.change(c); err != nil {
		return fault.Wrap(fault.BadRequest, err, "another replica's request is malformed")
	}
	if c.Rerouted {
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
