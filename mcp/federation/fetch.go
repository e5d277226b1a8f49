package federation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// What a list of one target may hold. What is over a limit is left out, and said.
const (
	maxItems     = 5000
	maxItemBytes = 256 << 10
	maxListBytes = 32 << 20
	maxPages     = 1000
)

const (
	defaultTTL = 60 * time.Second // of a list whose target says nothing
	// minTTL is what ttlMs: 0, "immediately stale", comes to. It is what servers say
	// that have no opinion, so that many clients, or one that calls tools, would otherwise
	// have a target list all the time: nobody sees a list that is older than a second, and all
	// who ask within it share one.
	minTTL      = time.Second
	maxTTL      = time.Hour
	maxLogged   = 20 // problems of one list
	listTimeout = 6  // times the target's own timeout bound all pages together
)

// A list is what one target had in one of its lists at one time. Its items are
// immutable.
type list struct {
	items  []*item
	size   int // in bytes, of the items
	digest [sha256.Size]byte

	// Of the shelf.
	key     shelfKey
	holders int
}

// A fetched is a list as it came.
type fetched struct {
	*list
	ttl  time.Duration // how long it may be taken for what the target has
	poll time.Duration // how long by those who would otherwise hear of changes
	keep time.Duration // how long the target lets clients keep it; 0 if it does not say
	// problems counts what was left out.
	problems int
}

// A lister fetches the lists of one target on behalf of one kind of caller.
type lister struct {
	target  *session.Target
	breaker *breaker
	client  session.Client
	forward session.Forward
	scope   scope
	session *session.Session // whose own leg is asked; nil asks on one that is leased
	logger  *slog.Logger
}

// ping asks the target for a sign of life.
func (l *lister) ping(ctx context.Context) error { return l.target.Ping(ctx, l.client, l.forward) }

// fetch asks the target for all pages of a list. A target that does not have such
// a list is not asked, and has an empty one.
func (l *lister) fetch(ctx context.Context, k kind) (*fetched, error) {
	if err := l.breaker.check(l.ping); err != nil {
		return nil, err
	}
	f := &features[k]
	timeout := timeoutOf(l.target)
	ctx, cancel := context.WithTimeout(ctx, listTimeout*timeout)
	defer cancel()

	out := &fetched{list: new(list), ttl: defaultTTL, poll: defaultTTL}
	d, leg, err := l.lease(ctx, f, timeout)
	l.breaker.heard(err)
	if err == nil && leg == nil {
		// That it has no such list is kept as long as what else it says about itself: in
		// the legacy era, for good.
		if out.keep = maxTTL; d.Era == protocol.Modern {
			out.keep = min(time.Until(d.Fresh), maxTTL)
		}
	}
	if err != nil || leg == nil {
		return out, err
	}
	defer leg.Release() // which does nothing to a session's own

	var (
		cursor  []byte
		seen    = map[string]bool{}
		known   = map[string]bool{}
		digest  = sha256.New()
		problem = func(err error) {
			if out.problems++; out.problems <= maxLogged {
				l.logger.WarnContext(ctx, "left out of the catalogue", "target", l.target.Config().Name,
					"list", f.member, "error", err)
			}
		}
	)
	for page := 0; ; page++ {
		if page == maxPages {
			problem(fmt.Errorf("more than %d pages", maxPages))
			break
		}
		result, err := l.page(ctx, leg, f, cursor, timeout)
		l.breaker.suspect(err, l.ping)
		if err != nil {
			return nil, err
		}
		if result == nil {
			break // the method is not there
		}
		ttl, keep := ttlOf(result)
		if page == 0 {
			out.ttl, out.keep = ttl, keep
		}
		out.ttl, out.keep = min(out.ttl, ttl), min(out.keep, keep)
		full := false
		elements := protocol.Get(result, f.member)
		if len(elements) == 0 || elements[0] != '[' {
			return nil, fault.Wrap(fault.UpstreamFailed, fmt.Errorf("result of %s has no array %s", f.method, f.member),
				"the target answered something that is no list")
		}
		for raw := range protocol.Elements(elements) {
			if len(raw) > maxItemBytes {
				problem(fmt.Errorf("an item of %d bytes", len(raw)))
				continue
			}
			if len(out.items) == maxItems || out.size+len(raw) > maxListBytes {
				problem(fmt.Errorf("more than %d items or %d bytes", maxItems, maxListBytes))
				full = true
				break
			}
			it, err := newItem(k, raw, l.scope)
			if err != nil {
				problem(err)
				continue
			}
			if known[it.own] {
				problem(fmt.Errorf("%s %q stands twice", f.id, it.own))
				continue
			}
			known[it.own] = true
			out.size += len(it.raw)
			digest.Write(it.raw)
			out.items = append(out.items, it)
		}
		next := protocol.Get(result, "nextCursor")
		if full || len(next) == 0 || next[0] != '"' || string(next) == `""` {
			break
		}
		if seen[string(next)] {
			problem(fmt.Errorf("the cursors go round in a circle"))
			break
		}
		seen[string(next)] = true
		cursor = bytes.Clone(next)
	}
	out.items = unambiguous(out.items, func(it *item, n int) {
		problem(fmt.Errorf("%d items have the client-visible name %q", n, it.client))
	})
	digest.Sum(out.digest[:0])
	out.poll = out.ttl
	if string(protocol.Get(d.Capabilities, f.capability, "listChanged")) == "true" {
		// Who says that it tells of changes is not asked for them all the time.
		out.poll = max(out.poll, defaultTTL)
	}
	return out, nil
}

// lease returns what the target says about itself and, if it has such a list, a leg
// to ask it on.
func (l *lister) lease(ctx context.Context, f *feature, timeout time.Duration) (*session.Discovery, *session.Leg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d, err := l.target.Discover(ctx, l.client, l.forward)
	if err != nil || protocol.Get(d.Capabilities, f.capability) == nil {
		return d, nil, err
	}
	var leg *session.Leg
	if l.session != nil {
		leg, err = l.session.Leg(ctx, l.target, l.forward)
	} else {
		leg, err = l.target.Lease(ctx, l.client, l.forward)
	}
	return d, leg, err
}

// page asks for one page; its result is nil when the target does not know the
// method.
func (l *lister) page(ctx context.Context, leg *session.Leg, f *feature, cursor []byte, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	params := []byte("{}")
	if cursor != nil {
		params = protocol.Splice(params, protocol.Edit{Path: []string{"cursor"}, Value: cursor})
	}
	m, err := leg.Call(ctx, &session.Call{Method: f.method, Params: params, Forward: l.forward})
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		if m.Error.Code == protocol.CodeMethodNotFound {
			return nil, nil
		}
		return nil, fault.Wrap(fault.UpstreamFailed, fmt.Errorf("%s: %w", f.method, m.Error), "the target refused to list")
	}
	if len(m.Result) == 0 || m.Result[0] != '{' {
		return nil, fault.Wrap(fault.UpstreamFailed, fmt.Errorf("%s: the result is no object", f.method), "the target answered something that is no list")
	}
	return m.Result, nil
}

func timeoutOf(t *session.Target) time.Duration {
	if d := t.Config().Timeout; d > 0 {
		return d
	}
	return 5 * time.Second
}

// ttlOf returns how long a list is believed, and how long its target lets clients
// keep it.
func ttlOf(result []byte) (ttl, keep time.Duration) {
	ttl, ok := protocol.TTL(result)
	if !ok {
		return defaultTTL, 0
	}
	return min(max(ttl, minTTL), maxTTL), min(ttl, maxTTL)
}

// unambiguous returns the items whose client-visible name no other of them has,
// in their order. Two names of a target can only meet when it makes them meet.
func unambiguous(items []*item, report func(*item, int)) []*item {
	count := make(map[string]int, len(items))
	for _, it := range items {
		count[it.client]++
	}
	if len(count) == len(items) {
		return items
	}
	out := items[:0]
	for _, it := range items {
		switch n := count[it.client]; {
		case n == 1:
			out = append(out, it)
		case n > 1:
			report(it, n)
			count[it.client] = 0
		}
	}
	return out
}
