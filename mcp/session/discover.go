package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Discovery is what a target says about itself, in modern shape whatever its
// era. It is immutable.
type Discovery struct {
	Era          protocol.Era
	Version      string // the revision that calls to it will use
	Capabilities []byte // raw JSON object
	ServerInfo   []byte // raw JSON object, {} when the target gave none
	Instructions string
	// Fresh is until when the target lets others keep this: its ttlMs, counted from
	// when it said so. Zero when it gave none.
	Fresh time.Time
}

const (
	// maxScopes bounds for how many isolation keys a target's discovery is kept.
	maxScopes = 1024
	// discoveryAge is how long what a modern target said about itself is believed, if
	// it does not say itself. What it says counts between the other two: what a server
	// is changes when it is deployed anew, and servers without an opinion say 0.
	discoveryAge    = 10 * time.Minute
	minDiscoveryAge = time.Minute
	maxDiscoveryAge = time.Hour
	// refreshRetry is how long it is believed further when it could not be asked
	// again.
	refreshRetry = 30 * time.Second
)

// discoveries keeps what is known of one target: once for all callers, or for
// each isolation key when callers' credentials reach the target.
type discoveries struct {
	flight singleflight.Group
	mu     sync.Mutex // makes forget atomic
	known  *lru.Cache[string, *discovered]
	// legacy says that some caller found a legacy target. Others then begin with
	// initialize: the era is the same for all.
	legacy atomic.Bool
}

// discovered is what is known within one scope.
type discovered struct {
	era  protocol.Era
	disc *Discovery // nil while only the era of a legacy target is known
	at   time.Time
	// asked says that the era was asked for just now rather than remembered.
	asked bool
}

func (d *discoveries) init() {
	// The error is for sizes that are not positive.
	d.known, _ = lru.New[string, *discovered](maxScopes)
}

func (d *discoveries) get(scope string) *discovered {
	e, _ := d.known.Get(scope)
	return e
}

func (d *discoveries) put(scope string, disc *Discovery) {
	d.legacy.Store(disc.Era == protocol.Legacy)
	d.known.Add(scope, &discovered{era: disc.Era, disc: disc, at: time.Now()})
}

// forget drops what is known, unless it was learned anew since.
func (d *discoveries) forget(scope string, old *discovered) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.legacy.Store(false)
	if e, ok := d.known.Peek(scope); ok && e == old {
		d.known.Remove(scope)
	}
}

// sharedHeaders reach every target without telling callers apart.
var sharedHeaders = map[string]bool{
	"Traceparent": true, "Tracestate": true, "Baggage": true, "Accept-Language": true,
}

// scope returns for whom what the target says about itself holds: "" is everybody.
func (t *Target) scope(c Client, f Forward) string {
	if t.cfg.Passthrough {
		return "k" + c.Isolation
	}
	for k := range f.Header {
		k = http.CanonicalHeaderKey(k)
		if !sharedHeaders[k] && (len(k) < len(protocol.HeaderParamPrefix) || k[:len(protocol.HeaderParamPrefix)] != protocol.HeaderParamPrefix) {
			return "k" + c.Isolation
		}
	}
	return ""
}

// Discover returns what the target says about itself to this caller, asking it
// when that is not known yet: server/discover first, initialize where that is
// not understood (2026-07-28, Versioning, Compatibility). A target is modern
// only when it says that it speaks 2026-07-28. The answer is kept; that a target
// could not be asked (no connection, a status of 500 or more, silence) is a
// fault and is not. Callers that ask at the same time share one exchange.
func (t *Target) Discover(ctx context.Context, c Client, f Forward) (*Discovery, error) {
	if t.bad != nil {
		return nil, t.enter()
	}
	scope := t.scope(c, f)
	e := t.discoveries.get(scope)
	switch {
	case e != nil && e.disc != nil && (e.era == protocol.Legacy || time.Now().Before(e.at.Add(e.age()))):
		return e.disc, nil
	case e != nil && e.disc != nil:
		fresh, err := t.probe(ctx, scope, c, f)
		if err != nil {
			// What it said before is better than nothing. It is asked again later.
			again := time.Now().Add(refreshRetry - e.age())
			t.discoveries.known.Add(scope, &discovered{era: e.era, disc: e.disc, at: again})
			return e.disc, nil
		}
		if fresh.disc != nil {
			return fresh.disc, nil
		} // it has become a legacy target
	}
	disc, err := share(ctx, t, "discover "+scope, func(ctx context.Context) (*Discovery, error) {
		w, disc, err := t.dial(ctx, c, f)
		if err != nil {
			return nil, err
		}
		t.pool.donate(w, c)
		return disc, nil
	})
	t.note(err)
	return disc, err
}

// age returns for how long what a modern target said is believed.
func (d *discovered) age() time.Duration {
	if d.disc.Fresh.IsZero() {
		return discoveryAge
	}
	return min(max(d.disc.Fresh.Sub(d.at), minDiscoveryAge), maxDiscoveryAge)
}

// note tells the health of the target from the outcome of asking it something.
func (t *Target) note(err error) {
	switch {
	case err == nil:
		t.found(true)
	case sick(err):
		t.found(false)
	}
}

// share runs f once for all callers that ask for key at the same time. f has a
// context of its own, which does not end with the first caller. A caller waits for
// the target's timeout at most.
func share[V any](ctx context.Context, t *Target, key string, f func(context.Context) (V, error)) (V, error) {
	var none V
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	ch := t.discoveries.flight.DoChan(key, func() (any, error) {
		type outcome struct {
			v   V
			err error
		}
		done := make(chan outcome, 1)
		if !t.spawn(func() {
			ctx, cancel := context.WithTimeout(t.ctx, t.setup())
			defer cancel()
			v, err := f(ctx)
			done <- outcome{v, err}
		}) {
			return none, t.closedFault()
		}
		o := <-done
		return o.v, o.err
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(V), nil
	case <-ctx.Done():
		return none, t.fault(ctx, ctx.Err())
	}
}

// setup is how long it may take to connect to the target. A child may take longer
// to start than anybody waits for it: it is there for the next who asks.
func (t *Target) setup() time.Duration {
	if t.cfg.Transport == Stdio {
		return max(t.cfg.Timeout, startTimeout)
	}
	return t.cfg.Timeout
}

// dial makes a wire to the target for the client, finding out the target's era
// if that is not known or turns out to be wrong.
func (t *Target) dial(ctx context.Context, c Client, f Forward) (wire, *Discovery, error) {
	switch t.cfg.Transport {
	case SSE:
		w, disc, err := t.dialSSE(ctx, c, f)
		if err != nil {
			return nil, nil, t.refusedFault(ctx, err)
		}
		t.discoveries.put(t.scope(c, f), disc)
		return w, disc, nil
	case Stdio:
		w, disc, err := t.dialStdio(ctx, c)
		if err != nil {
			return nil, nil, t.refusedFault(ctx, err)
		}
		t.discoveries.put(t.scope(c, f), disc)
		return w, disc, nil
	}
	scope := t.scope(c, f)
	for attempt := 1; ; attempt++ {
		e := t.discoveries.get(scope)
		switch {
		case e != nil:
		case t.discoveries.legacy.Load():
			e = &discovered{era: protocol.Legacy}
		default:
			var err error
			if e, err = t.probe(ctx, scope, c, f); err != nil {
				return nil, nil, err
			}
		}
		if e.era == protocol.Modern {
			return &modernHTTP{t: t, client: &c, revision: e.disc.Version, capabilities: e.disc.Capabilities}, e.disc, nil
		}
		w, disc, err := t.initializeHTTP(ctx, c, f)
		if err == nil {
			t.discoveries.put(scope, disc)
			return w, disc, nil
		}
		var refused *refusal
		var status *statusError
		if !errors.As(err, &refused) && !errors.As(err, &status) {
			return nil, nil, err
		}
		t.discoveries.forget(scope, e)
		if attempt == 2 || e.asked {
			return nil, nil, t.refusedFault(ctx, err)
		}
	}
}

// wireAtHand returns a wire that takes no exchange with the target, nil if there
// is none.
func (t *Target) wireAtHand(c *Client, f Forward) wire {
	switch {
	case t.bad != nil || t.ctx.Err() != nil:
		return nil
	case t.cfg.Transport == StreamableHTTP:
		if e := t.discoveries.get(t.scope(*c, f)); e != nil && e.era == protocol.Modern {
			return &modernHTTP{t: t, client: c, revision: e.disc.Version, capabilities: e.disc.Capabilities}
		}
	case t.cfg.Transport == Stdio && !t.cfg.Command.PerSession:
		if d := t.children.running(keyOf(*c)); d != nil {
			return &duplexWire{duplex: d}
		}
	}
	return nil
}

// refusedFault returns as a fault that the target refused what the gateway
// needs of it.
func (t *Target) refusedFault(ctx context.Context, err error) error {
	var refused *refusal
	if errors.As(err, &refused) {
		return t.failed(err)
	}
	return t.fault(ctx, err)
}

// probe asks the target for its era with server/discover and keeps the answer.
func (t *Target) probe(ctx context.Context, scope string, c Client, f Forward) (*discovered, error) {
	return share(ctx, t, "probe "+scope, func(ctx context.Context) (*discovered, error) {
		var disc *Discovery
		var err error
		if t.cfg.Transport == StreamableHTTP {
			disc, err = t.askHTTP(ctx, c, f)
			var refused *refusal
			if errors.As(err, &refused) && refused.err.Code == protocol.CodeUnsupportedProtocolVersion {
				// It names the revision that it was asked for among those it supports:
				// it is asked once more.
				disc, err = t.askHTTP(ctx, c, f)
			}
		} else {
			disc, err = t.children.askAgain(ctx, c)
		}
		if err != nil {
			return nil, err
		}
		e := &discovered{era: protocol.Legacy, at: time.Now(), asked: true}
		if disc != nil {
			e.era, e.disc = protocol.Modern, disc
		}
		t.discoveries.known.Add(scope, e)
		return e, nil
	})
}

// askHTTP sends server/discover over HTTP. It returns nil when the answer is
// that of a legacy target.
func (t *Target) askHTTP(ctx context.Context, c Client, f Forward) (*Discovery, error) {
	w := &modernHTTP{t: t, client: &c, revision: protocol.LatestModern}
	r := t.discoverRequest(c, f)
	ctx = t.begin(ctx, r)
	defer r.end()
	resp, err := t.do(ctx, http.MethodPost, nil,
		protocol.AppendRequest(nil, r.id, r.method, r.params), f, w.header(r.method, r.params))
	if err != nil {
		return nil, t.fault(ctx, err)
	}
	var m *protocol.Message
	if success(resp.StatusCode) {
		m, err = t.answer(ctx, resp, r, w, new(cursor))
	} else {
		m, err = t.rejection(resp, r.id)
	}
	var status *statusError
	switch {
	case errors.As(err, &status) && status.status < 500:
		return nil, nil // whatever it is, it did not understand
	case err != nil:
		return nil, t.fault(ctx, err)
	}
	return t.discoveryOf(m)
}

// hasModern reports whether a raw list of revisions has the modern one.
func hasModern(versions []byte) bool {
	if len(versions) == 0 || versions[0] != '[' {
		return false
	}
	for v := range protocol.Elements(versions) {
		if string(v) == `"`+protocol.LatestModern+`"` {
			return true
		}
	}
	return false
}

// discoverRequest returns the request that asks for the era.
func (t *Target) discoverRequest(c Client, f Forward) *request {
	r := &request{id: nextID(), method: "server/discover", f: f}
	r.params, _ = modernParams(nil, r.id, protocol.LatestModern, capabilitiesFor(protocol.Modern, &c), t.clientInfo(c), nil)
	return r
}

// discoveryOf reads the answer to server/discover; nil says that the target is a
// legacy one.
func (t *Target) discoveryOf(m *protocol.Message) (*Discovery, error) {
	if m.Error != nil {
		if m.Error.Code == protocol.CodeHeaderMismatch || m.Error.Code == protocol.CodeMissingClientCapability {
			return nil, fault.Wrap(fault.UpstreamFailed, t.wrap(&refusal{m.Error}), "the server behind this request failed")
		}
		if m.Error.Code == protocol.CodeUnsupportedProtocolVersion && hasModern(protocol.Get(m.Error.Data, "supported")) {
			return nil, fault.Wrap(fault.UpstreamFailed, t.wrap(&refusal{m.Error}), "the server behind this request failed")
		}
		return nil, nil
	}
	if !hasModern(protocol.Get(m.Result, "supportedVersions")) {
		return nil, nil
	}
	instructions, _ := protocol.GetString(m.Result, "instructions")
	var fresh time.Time
	if ttl, ok := protocol.TTL(m.Result); ok {
		fresh = time.Now().Add(ttl)
	}
	return &Discovery{
		Fresh:        fresh,
		Era:          protocol.Modern,
		Version:      protocol.LatestModern,
		Capabilities: objectAt(m.Result, "capabilities"),
		ServerInfo:   objectAt(m.Result, "_meta", protocol.MetaServerInfo),
		Instructions: instructions,
	}, nil
}

// discoveryOfInitialize reads the result of initialize.
func discoveryOfInitialize(result []byte) (*Discovery, error) {
	version, _ := protocol.GetString(result, "protocolVersion")
	if protocol.EraOf(version) != protocol.Legacy {
		return nil, fmt.Errorf("the target answered initialize with a revision that is not spoken here")
	}
	instructions, _ := protocol.GetString(result, "instructions")
	return &Discovery{
		Era:          protocol.Legacy,
		Version:      version,
		Capabilities: objectAt(result, "capabilities"),
		ServerInfo:   objectAt(result, "serverInfo"),
		Instructions: instructions,
	}, nil
}

// objectAt returns a copy of the JSON object at path, {} when there is none.
func objectAt(obj []byte, path ...string) []byte {
	raw := protocol.Get(obj, path...)
	if len(raw) == 0 || raw[0] != '{' {
		return []byte("{}")
	}
	return append([]byte(nil), raw...)
}
