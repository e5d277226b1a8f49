package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Command is how to start a stdio target. The environment of the child is Env
// and a fixed list of harmless variables (PATH, HOME, LANG, …), nothing else of
// ours.
type Command struct {
	Path string // looked up in PATH when it has no slash
	Args []string
	Env  []string // KEY=value
	Dir  string   // working directory; "" is the gateway's own
	// PerSession starts a child for each session; otherwise one is shared by the
	// callers with the same isolation key and capabilities.
	PerSession bool
}

const (
	// maxChildren bounds the children of one target.
	maxChildren = 32
	// graceStdin and graceTerm are how long a child may take to end once its
	// stdin is closed, and once it got SIGTERM (2025-11-25, Lifecycle, Shutdown).
	graceStdin = 2 * time.Second
	graceTerm  = 3 * time.Second
	// startTimeout bounds how long a child may take to start: some install
	// themselves first.
	startTimeout = time.Minute
	// writeWait bounds how long a child may take to read one message.
	writeWait = 30 * time.Second
	// stderrLine, stderrRate and stderrBurst bound what is logged of a child's
	// stderr: bytes a line, lines a second.
	stderrLine  = 1 << 10
	stderrRate  = 10
	stderrBurst = 100
)

// inherited are the variables that a child gets of the gateway's environment.
var inherited = []string{"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}

// children are the processes of a stdio target.
type children struct {
	t     *Target
	mu    sync.Mutex
	slots map[poolKey]*slot // of shared children
	live  map[*duplex]struct{}
	count int          // children that run or are being started
	era   protocol.Era // once known: it is the same for all
	pause backoff      // after children that did not last
	until time.Time    // no child is started before
	// started holds those who wait for a child of a key to be started.
	started map[poolKey]*awaited
}

// awaited is a child that is waited for.
type awaited struct {
	started chan struct{}
	waiting int
}

// A slot is where the shared child of one key is, or is being started.
type slot struct {
	starting chan struct{} // closed when it has started or failed; nil otherwise
	d        *duplex
	err      error
}

func (cs *children) init(t *Target) {
	cs.t, cs.slots, cs.live = t, make(map[poolKey]*slot), make(map[*duplex]struct{})
	cs.started = make(map[poolKey]*awaited)
}

// dialStdio returns a wire to a child: one of its own for each session, or the
// one that callers of the same key share. It starts the child if there is none.
func (t *Target) dialStdio(ctx context.Context, c Client) (wire, *Discovery, error) {
	if t.cfg.Command.PerSession {
		d, err := t.children.start(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		return &duplexWire{duplex: d, own: true}, d.disc.Load(), nil
	}
	d, err := t.children.get(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return &duplexWire{duplex: d}, d.disc.Load(), nil
}

// get returns the shared child for the client.
func (cs *children) get(ctx context.Context, c Client) (*duplex, error) {
	key := keyOf(c)
	for {
		cs.mu.Lock()
		s := cs.slots[key]
		switch {
		case s != nil && s.starting != nil:
			starting := s.starting
			cs.mu.Unlock()
			select {
			case <-starting:
			case <-ctx.Done():
				return nil, cs.t.fault(ctx, ctx.Err())
			}
			if s.err != nil {
				return nil, s.err
			}
			continue
		case s != nil && s.d.alive():
			cs.mu.Unlock()
			return s.d, nil
		}
		s = &slot{starting: make(chan struct{})}
		cs.slots[key] = s
		cs.mu.Unlock()
		d, err := cs.start(ctx, c)
		cs.mu.Lock()
		s.d, s.err = d, err
		close(s.starting)
		s.starting = nil
		if err != nil && cs.slots[key] == s {
			delete(cs.slots, key)
		}
		cs.mu.Unlock()
		return d, err
	}
}

// running returns the shared child of a key, nil if none runs.
func (cs *children) running(key poolKey) *duplex {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if s := cs.slots[key]; s != nil && s.d != nil && s.d.alive() {
		return s.d
	}
	return nil
}

// nextStart waits until a child for the client runs that somebody else started,
// or ctx ends.
func (cs *children) nextStart(ctx context.Context, c Client) {
	key := keyOf(c)
	cs.mu.Lock()
	if s := cs.slots[key]; s != nil && s.d != nil && s.d.alive() {
		cs.mu.Unlock()
		return
	}
	n := cs.started[key]
	if n == nil {
		n = &awaited{started: make(chan struct{})}
		cs.started[key] = n
	}
	n.waiting++
	cs.mu.Unlock()
	select {
	case <-n.started:
	case <-ctx.Done():
	case <-cs.t.ctx.Done():
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if n.waiting--; n.waiting == 0 && cs.started[key] == n {
		delete(cs.started, key)
	}
}

// start starts a child and opens its session.
func (cs *children) start(ctx context.Context, c Client) (*duplex, error) {
	cs.mu.Lock()
	wait := time.Until(cs.until)
	cs.mu.Unlock()
	if wait > 0 {
		f := fault.Wrap(fault.UpstreamUnreachable, cs.t.wrap(errors.New("the process does not keep running; it is started again later")),
			"the server behind this request cannot be started")
		f.RetryAfter = wait
		return nil, f
	}
	if err := cs.reserve(); err != nil {
		return nil, err
	}
	begun := time.Now()
	d, err := cs.startIn(ctx, c)
	if err != nil {
		cs.mu.Lock()
		if ctx.Err() == nil && time.Since(begun) < steady {
			cs.until = time.Now().Add(cs.pause.next())
		}
		cs.mu.Unlock()
	}
	return d, err
}

// startIn starts a child in a place that was reserved. A child that ends at
// being asked for its era is started again and not asked.
func (cs *children) startIn(ctx context.Context, c Client) (*duplex, error) {
	cs.mu.Lock()
	era := cs.era
	cs.mu.Unlock()
	d, err := cs.spawn()
	if err != nil {
		return nil, err
	}
	w := &duplexWire{duplex: d}
	var disc *Discovery
	asked := era != protocol.Legacy
	if asked {
		if disc, err = cs.ask(ctx, w, c); err != nil && !d.alive() && cs.t.ctx.Err() == nil {
			if err := cs.reserve(); err != nil {
				return nil, err
			}
			if d, err = cs.spawn(); err != nil {
				return nil, err
			}
			w, disc, err = &duplexWire{duplex: d}, nil, nil
		}
	}
	if disc == nil && err == nil {
		disc, err = cs.t.handshake(ctx, w, c, Forward{})
		var refused *refusal
		if asked && errors.As(err, &refused) { // it was slow rather than old
			if disc, err = cs.ask(ctx, w, c); disc == nil && err == nil {
				err = refused
			}
		}
	}
	if err != nil {
		d.fail(err)
		return nil, cs.t.refusedFault(ctx, err)
	}
	d.disc.Store(disc)
	cs.mu.Lock()
	cs.era, cs.until = disc.Era, time.Time{}
	if n := cs.started[keyOf(c)]; n != nil {
		close(n.started)
		delete(cs.started, keyOf(c))
	}
	cs.mu.Unlock()
	return d, nil
}

// ask asks a child for its era. A legacy server answers with an error, or, as
// some do before initialize, not at all; either gives nil.
func (cs *children) ask(ctx context.Context, w *duplexWire, c Client) (*Discovery, error) {
	ctx, cancel := context.WithTimeout(ctx, cs.t.cfg.Timeout/2)
	defer cancel()
	m, err := w.call(ctx, cs.t.discoverRequest(c, Forward{}))
	switch {
	case err == nil:
		return cs.t.discoveryOf(m)
	case w.alive() && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, nil
	default:
		return nil, plain(err)
	}
}

// askAgain asks the caller's child, if it runs, once more what it is. One that does
// not run says so when it is started.
func (cs *children) askAgain(ctx context.Context, c Client) (*Discovery, error) {
	d := cs.running(keyOf(c))
	if d == nil {
		return nil, cs.t.failed(errUnused)
	}
	disc, err := cs.ask(ctx, &duplexWire{duplex: d}, c)
	switch {
	case err != nil:
		return nil, cs.t.fault(ctx, err)
	case disc == nil:
		return nil, cs.t.failed(errors.New("the process does not say again what it is"))
	}
	d.disc.Store(disc)
	return disc, nil
}

// reserve counts a child in that is about to be started. It makes room by ending
// the one that was not used for longest.
func (cs *children) reserve() error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.count >= maxChildren && !cs.evict() {
		return cs.t.busy()
	}
	cs.count++
	return nil
}

// evict ends the child that was not used for longest, and counts it out at once.
func (cs *children) evict() bool {
	var oldest *duplex
	var least time.Time
	for d := range cs.live {
		if since, ok := d.unused(); ok && (oldest == nil || since.Before(least)) {
			oldest, least = d, since
		}
	}
	if oldest == nil {
		return false
	}
	delete(cs.live, oldest)
	cs.count--
	// fail takes locks of the child only.
	oldest.fail(errUnused)
	return true
}

// exited counts a child out. lasted is how long it ran, asked whether the
// gateway ended it.
func (cs *children) exited(d *duplex, lasted time.Duration, asked bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if _, ok := cs.live[d]; ok {
		delete(cs.live, d)
		cs.count--
	}
	for key, s := range cs.slots {
		if s.d == d {
			delete(cs.slots, key)
		}
	}
	switch {
	case lasted >= steady:
		cs.pause.reset()
	case !asked:
		cs.until = time.Now().Add(cs.pause.next())
	}
}
