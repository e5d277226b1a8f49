package federation

import (
	"context"
	"crypto/sha256"
	"maps"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// The lists of a legacy target are shared, though it may show each session its own.
// That they differ shows when it tells a session that its lists changed. From then on
// that session is shown what the target lists on the session's own leg, until that is
// what all others are shown, too: a target that tells all sessions of one change costs
// a list for each that asks, which is what it would cost without a gateway, and nothing
// after. Which lists are a session's own is kept with what else of it is in this process;
// the lists themselves are entries of the hub like others, under its limits.

// owned is what of a session's catalogue is its own.
type owned struct {
	targets map[*session.Target]bool
	view    *view // made for the targets from base
	base    *view
	// seen are the lists that the session had of targets when it shared them again: it
	// is not told of what it has.
	seen map[*session.Target]digests
}

// digests are those of the lists of one target.
type digests [kinds][sha256.Size]byte

// knows reports whether the session need not be told that the shared lists of an entry
// changed: because its own are in their place, or because it has seen them.
func (l *live) knows(e *entry, c changes) bool {
	if l == nil || !l.special.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own.targets[e.key.target] {
		return true
	}
	seen, ok := l.own.seen[e.key.target]
	if !ok {
		return false
	}
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		if c&features[k].change != 0 && (s.good == nil || s.good.digest != seen[k]) {
			ok = false
		}
		s.mu.Unlock()
	}
	if !ok {
		delete(l.own.seen, e.key.target) // it is told of others, and of these should they come again
	}
	return ok
}

// changedAlone notes that a target told this session that its lists changed.
func (v *voice) changedAlone(c changes) {
	t := v.leg.Target()
	shared := v.b.view(v.client.Isolation, v.client.Capabilities, v.forward).entry(t)
	if shared == nil {
		return // the target is gone
	}
	// It may have told others in the same way who do not listen.
	shared.invalidate(c)
	if cfg := t.Config(); v.sess == nil || v.leg.Era() != protocol.Legacy && !(cfg.Transport == session.Stdio && cfg.Command.PerSession) {
		return // a modern target has no sessions that it could tell apart
	}
	if e := v.b.hub.entry(shared.ownKey(v.live)); e != nil {
		e.invalidate(c)
	}
	v.live.hold(v.sess)
	v.live.mu.Lock()
	first := len(v.live.own.targets) == 0
	if !v.live.own.targets[t] {
		targets := maps.Clone(v.live.own.targets)
		if targets == nil {
			targets = map[*session.Target]bool{}
		}
		targets[t] = true
		v.live.own = owned{targets: targets, seen: v.live.own.seen}
		v.live.special.Store(true)
	}
	s := v.live.stream
	v.live.mu.Unlock()
	if first && v.sess.AtHome() {
		// Before the client hears of it, which asks any replica then.
		v.b.hub.tellPeers(context.Background(), peerOwn, v.sess.Nonce())
	}
	if s != nil {
		s.notify(c)
	}
}

// missed has the session told what its target may have told it alone while nobody listened: where it has lists of its own,
// nobody else hears of their changes.
func (v *voice) missed() {
	t := v.leg.Target()
	v.live.mu.Lock()
	own := v.live.own.targets[t]
	v.live.mu.Unlock()
	shared := v.b.view(v.client.Isolation, v.client.Capabilities, v.forward).entry(t)
	if !own || shared == nil {
		return
	}
	var c changes
	for k := range features {
		if shared.announces(kind(k)) {
			c |= features[k].change
		}
	}
	v.changedAlone(c)
}

// ownKey is the key of a session's own lists in place of the shared ones.
func (e *entry) ownKey(l *live) entryKey {
	key := e.key
	key.session = l.nonce
	return key
}

// entry returns the entry for the key, nil when there is none.
func (h *Hub) entry(key entryKey) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, _ := h.entries.Peek(key)
	return e
}

// ownView returns the view of the session of a request: v, with the lists of the
// targets in whose place the session has its own.
func (q *request) ownView(v *view) *view {
	if q.live == nil || q.sess == nil || !q.live.special.Load() {
		return v
	}
	l := q.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.own.targets) == 0 {
		return v
	}
	if l.own.view != nil && l.own.base == v && !l.own.view.gone() {
		return l.own.view
	}
	own := &view{b: v.b, entries: make([]*entry, len(v.entries)), shared: v}
	for i, e := range v.entries {
		own.entries[i] = e
		if l.own.targets[e.key.target] {
			own.entries[i] = v.b.hub.entryOf(e.ownKey(l), lister{
				breaker: e.lister.breaker, client: q.client, forward: e.lister.forward, session: q.sess})
		}
	}
	l.own.view, l.own.base = own, v
	return own
}

// shareAgain lets go of what is the session's own of a list no longer: it is what the
// others are shown.
func (q *request) shareAgain(v *view) {
	if v.shared == nil {
		return
	}
	l := q.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own.view != v {
		return
	}
	left := maps.Clone(l.own.targets)
	seen := map[*session.Target]digests{}
	for i, own := range v.entries {
		t := own.key.target
		if d, ok := l.own.seen[t]; ok {
			seen[t] = d
		}
		if shared := v.shared.entries[i]; own != shared {
			if d, same := own.same(shared); same {
				delete(left, t)
				seen[t] = d
			}
		}
	}
	if len(left) < len(l.own.targets) {
		l.own = owned{targets: left, seen: seen}
		if h, nonce := q.b.hub, l.nonce; len(left) == 0 && q.sess.AtHome() {
			h.spawn(func(ctx context.Context) { h.tellPeers(ctx, peerShared, nonce) })
		}
	}
}

// same reports whether all that was fetched of the lists is up to date and equal to
// those of the other, and returns them.
func (e *entry) same(other *entry) (d digests, same bool) {
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		unknown := s.good == nil && s.flight == nil
		s.mu.Unlock()
		if unknown {
			continue
		}
		mine, theirs := e.fresh(kind(k)), other.fresh(kind(k))
		if mine == nil || theirs == nil || mine.list != theirs.list {
			return d, false
		}
		d[k], same = mine.digest, true
	}
	return d, same
}
