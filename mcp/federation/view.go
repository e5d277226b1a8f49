package federation

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"weak"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// A view is the catalogue of one backend for one kind of caller: an entry a
// target, in the order of the targets, and the merged lists made from them. What
// of it a caller may see is decided for each request. It is safe for concurrent
// use.
type view struct {
	b       *Backend
	entries []*entry
	shared  *view // of a session that has lists of its own: what it is shown else
	merged  [kinds]atomic.Pointer[weak.Pointer[merged]]
}

// view returns the view for a caller.
func (b *Backend) view(isolation string, capabilities []byte, f session.Forward) *view {
	key := isolation + "\x00" + string(capabilities)
	if v, ok := b.views.Get(key); ok && !v.gone() {
		return v
	}
	v := &view{b: b, entries: make([]*entry, len(b.targets))}
	for i, t := range b.targets {
		cfg := t.Config()
		client := session.Client{Version: protocol.LatestModern, Capabilities: capabilities, Info: b.serverInfo()}
		var forward session.Forward
		if b.private(cfg) {
			client.Isolation = isolation
			forward.Authorization = f.Authorization
			for _, name := range b.cfg.ForwardHeaders {
				if values, ok := f.Header[http.CanonicalHeaderKey(name)]; ok {
					if forward.Header == nil {
						forward.Header = http.Header{}
					}
					forward.Header[http.CanonicalHeaderKey(name)] = values
				}
			}
		}
		v.entries[i] = b.hub.entryOf(entryKey{
			target: t, scope: b.naming.scope(cfg.Name), isolation: client.Isolation, capabilities: string(capabilities),
		}, lister{breaker: b.breakers[i], client: client, forward: forward})
	}
	b.views.Add(key, v)
	return v
}

// gone reports whether an entry of the view is no longer the hub's, and notes
// that the others are in use.
func (v *view) gone() bool {
	now := v.b.hub.now().UnixNano()
	for _, e := range v.entries {
		if e.gone.Load() {
			return true
		}
		if now-e.used.Load() > int64(time.Second) {
			e.used.Store(now)
		}
	}
	return false
}

// entry returns the entry of a target, nil when the view does not have it.
func (v *view) entry(t *session.Target) *entry {
	for _, e := range v.entries {
		if e.key.target == t {
			return e
		}
	}
	return nil
}

// load returns the merged list, with the lists of all targets as fresh as they
// should be. A target that fails is left out, or served as it was. Lists that have to
// be fetched are fetched all at once.
func (v *view) load(ctx context.Context, k kind) (*merged, lack, error) {
	lists := make([]*list, len(v.entries))
	errs := make([]error, len(v.entries))
	var flying map[int]inquiry
	for i, e := range v.entries {
		q := e.ask(k)
		if lists[i], errs[i] = q.list, q.err; q.flight != nil {
			if flying == nil {
				flying = map[int]inquiry{}
			}
			flying[i] = q
		}
	}
	if flying != nil {
		if err := v.wait(ctx, k, flying, lists, errs); err != nil {
			return nil, lack{}, err
		}
	}
	var short lack
	for i, err := range errs {
		if err != nil {
			short.add(v.b.cfg.Targets[i].Name, lists[i] != nil, err)
		}
	}
	if v.b.cfg.FailClosed && len(short.missing) > 0 {
		return nil, short, fault.Wrap(fault.UpstreamFailed, short.err, "a server behind this one does not answer")
	}
	return v.merge(k, lists), short, nil
}

// wait takes what the flights bring, each for as long as it is worth waiting for.
func (v *view) wait(ctx context.Context, k kind, flying map[int]inquiry, lists []*list, errs []error) error {
	began := time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for i, q := range flying {
		timer.Reset(q.wait - time.Since(began))
		landed := false
		select {
		case <-q.flight:
			landed = true
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		lists[i], errs[i] = v.entries[i].answer(k, landed)
	}
	return nil
}

// keep returns how long clients may keep a merged list: as long as what each target
// says of its part has yet to last.
func (v *view) keep(k kind, m *merged) time.Duration {
	if len(v.entries) == 0 {
		return 0
	}
	least := maxTTL
	for i, e := range v.entries {
		least = min(least, e.keep(k, m.lists[i]))
	}
	return least
}

// errUnknown says that the caller can't see such a thing, whether or not it
// exists. It is never shown.
var errUnknown = errors.New("unknown to the caller")

// A denial is errUnknown to the client, and says to the operator who decided.
type denial struct{ err error }

func (d *denial) Error() string        { return d.err.Error() }
func (d *denial) Unwrap() error        { return d.err }
func (d *denial) Is(target error) bool { return target == errUnknown }

// find returns the item of that client-visible name, if the caller may see it:
// else errUnknown, or what keeps a list from being known that the item may be
// in. Lists that are in memory are not fetched for it.
func (v *view) find(ctx context.Context, k kind, method, name string) (place, error) {
	var few [8]*list
	lists := append(few[:0], make([]*list, len(v.entries))...)
	incomplete := false
	for i, e := range v.entries {
		lists[i] = e.peek(k)
		incomplete = incomplete || lists[i] == nil
	}
	m := v.merge(k, lists)
	i, ok := m.index[name]
	var short lack
	if !ok && incomplete && !v.b.naming.bare && v.loadNamed(ctx, k, name, lists) {
		m = v.merge(k, lists)
		i, ok = m.index[name]
	}
	if !ok && (incomplete || v.changed(k)) {
		var err error
		if m, short, err = v.load(ctx, k); err != nil && !v.b.cfg.FailClosed {
			return place{}, err
		}
		if m != nil {
			i, ok = m.index[name]
		}
	}
	if !ok {
		return place{}, v.missing(ctx, k, method, name, short)
	}
	p := m.items[i]
	if err := v.authorize(ctx, k, method, p.target, p.own, nil); err != nil {
		return place{}, err
	}
	return p, nil
}

// loadNamed fetches the lists that are missing of the targets whose name a
// client-visible name begins with, so that others are not waited for. It reports
// whether it got any.
func (v *view) loadNamed(ctx context.Context, k kind, name string, lists []*list) (any bool) {
	for i, e := range v.entries {
		if lists[i] == nil && strings.HasPrefix(name, v.b.cfg.Targets[i].Name+"_") {
			lists[i], _ = e.get(ctx, k) // an error shows as a list that is still missing
			any = any || lists[i] != nil
		}
	}
	return any
}

// missing returns what to say of a name that is in no list: when the list of the
// target that it would belong to is missing, and the caller may use it there,
// that the target is to blame.
func (v *view) missing(ctx context.Context, k kind, method, name string, short lack) error {
	for _, target := range short.missing {
		own := name
		if !v.b.naming.bare {
			var ok bool
			if own, ok = strings.CutPrefix(name, target+"_"); !ok {
				continue
			}
		}
		for i := range v.b.cfg.Targets {
			if v.b.cfg.Targets[i].Name == target && v.authorize(ctx, k, method, i, own, nil) == nil {
				return fault.Wrap(fault.UpstreamUnreachable, short.err, "the server behind %s is not available", name)
			}
		}
	}
	return errUnknown
}

func (v *view) changed(k kind) bool {
	for _, e := range v.entries {
		if e.changed(k) {
			return true
		}
	}
	return false
}

// authorize decides about one thing of a target: nil, errUnknown when it is
// denied, or the fault of rules that can't be evaluated at all.
func (v *view) authorize(ctx context.Context, k kind, method string, target int, own string, arguments []byte) error {
	err := policy.Authorize(ctx, policy.Operation{
		Kind: features[k].policy, Method: method, Target: v.b.cfg.Targets[target].Name, Name: own, Arguments: arguments,
	})
	if err == nil {
		return nil
	}
	var f *fault.Fault
	if errors.As(err, &f) && f.Code == fault.Denied {
		return &denial{err}
	}
	return err
}

// resolve returns the target that a client-visible URI belongs to and the URI as
// the target has it, or errUnknown. What a tool links to need not be in any list.
func (v *view) resolve(ctx context.Context, method, uri string) (target int, own string, err error) {
	target = -1
	switch {
	case uri == "":
	case !v.b.naming.bare:
		name, rest, ok := v.b.naming.targetOf(uri)
		if ok {
			target, own = v.b.indexOf(name), rest
		}
	case len(v.b.targets) == 1:
		target, own = 0, uri
	default:
		own = uri
		if target, err = v.owner(ctx, uri); err != nil {
			return 0, "", err
		}
	}
	if target < 0 {
		return 0, "", errUnknown
	}
	return target, own, v.authorize(ctx, resources, method, target, own, nil)
}

// owner returns the only target whose resources or templates have a bare URI, -1
// when there is none or more than one.
func (v *view) owner(ctx context.Context, uri string) (int, error) {
	m, _, err := v.load(ctx, resources)
	if err != nil {
		return -1, err
	}
	if i, ok := m.index[uri]; ok {
		return m.items[i].target, nil
	}
	shared := 0
	for _, l := range m.lists {
		if l == nil {
			continue
		}
		for _, it := range l.items {
			if it.client == uri {
				shared++
			}
		}
	}
	if shared > 1 {
		return -1, nil
	}
	if m, _, err = v.load(ctx, templates); err != nil {
		return -1, err
	}
	found := -1
	for _, p := range m.items {
		if p.own == uri || p.match != nil && len(uri) <= 8192 && p.match.MatchString(uri) {
			if found >= 0 && found != p.target {
				return -1, nil
			}
			found = p.target
		}
	}
	return found, nil
}

func (b *Backend) indexOf(target string) int {
	for i := range b.cfg.Targets {
		if b.cfg.Targets[i].Name == target {
			return i
		}
	}
	return -1
}
