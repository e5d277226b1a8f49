package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Command is how to start a stdio target. The environment of the child is Env
// and a fixed list of harmless variables (PATH, HOME, LANG, …), nothing else of ours.
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
	// stderrLine, stderrRate and stderrBurst bound what is logged of a child's stderr:
	// bytes a line, lines a second.
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

func (c *children) init(t *Target) {
	c.t, c.slots, c.live = t, make(map[poolKey]*slot), make(map[*duplex]struct{})
	c.started = make(map[poolKey]*awaited)
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

// A process is a running child.
type process struct {
	t      *Target
	cmd    *exec.Cmd
	d      *duplex
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	writes chan struct{} // holds a token while nobody writes
	stop   chan struct{} // closed when the child is to end
	exited chan struct{} // closed when it has ended
	begun  time.Time
}

// spawn starts the process, in a place that was reserved.
func (cs *children) spawn() (d *duplex, err error) {
	t := cs.t
	defer func() {
		if err != nil {
			cs.mu.Lock()
			cs.count--
			cs.mu.Unlock()
		}
	}()
	p := &process{
		t: t, writes: make(chan struct{}, 1), stop: make(chan struct{}), exited: make(chan struct{}), begun: time.Now(),
	}
	p.writes <- struct{}{}
	if err := p.start(t.cfg.Command); err != nil {
		return nil, fault.Wrap(fault.UpstreamUnreachable, t.wrap(fmt.Errorf("starting the process: %w", err)),
			"the server behind this request cannot be started")
	}
	p.d = &duplex{
		t: t, shared: !t.cfg.Command.PerSession, idle: duplexIdle,
		write: p.write, end: sync.OnceFunc(func() { close(p.stop) }),
	}
	p.d.open()
	cs.mu.Lock()
	cs.live[p.d] = struct{}{}
	cs.mu.Unlock()
	// The process is there and has to be taken care of even if the target is
	// closed by now.
	for _, f := range []func(){p.read, p.log, p.tend} {
		if !t.spawn(f) {
			go f()
		}
	}
	return p.d, nil
}

// start starts the command in a process group of its own, with pipes.
func (p *process) start(c *Command) error {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = environment(c.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // the child has its own
		}
	}()
	pipe := func(child, own **os.File, toChild bool) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*child, *own = w, r
		if toChild {
			*child, *own = r, w
		}
		theirs = append(theirs, *child)
		return nil
	}
	var in, out, errs *os.File
	err := errors.Join(pipe(&in, &p.stdin, true), pipe(&out, &p.stdout, false), pipe(&errs, &p.stderr, false))
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
		err = cmd.Start()
	}
	if err != nil {
		for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
			if f != nil {
				_ = f.Close() // nothing was written
			}
		}
		return err
	}
	p.cmd = cmd
	return nil
}

// environment returns the environment of a child.
func environment(own []string) []string {
	var env []string
	for _, k := range inherited {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return append(env, own...) // of equal keys the last one counts
}

// write sends one message as one line. Half a line would garble all that
// follows, so a child that does not read is given up.
func (p *process) write(ctx context.Context, msg []byte, _ Forward) (*protocol.Message, error) {
	select {
	case <-p.writes:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.exited:
		return nil, &unsent{err: p.t.failed(errBroken)}
	}
	defer func() { p.writes <- struct{}{} }()
	if !p.d.alive() {
		return nil, &unsent{err: p.t.failed(errBroken)}
	}
	_ = p.stdin.SetWriteDeadline(time.Now().Add(writeWait)) // pipes have deadlines
	line := msg
	if slices.Contains(msg, '\n') { // white space between tokens; strings have none unescaped
		line = slices.Clone(msg)
		for i, b := range line {
			if b == '\n' || b == '\r' {
				line[i] = ' '
			}
		}
	}
	n, err := p.stdin.Write(append(line[:len(line):len(line)], '\n'))
	switch {
	case err == nil:
		return nil, nil
	case n == 0:
		p.d.fail(fmt.Errorf("%w: %w", errBroken, err))
		return nil, &unsent{err: p.t.failed(err)}
	default:
		p.d.fail(fmt.Errorf("%w: %w", errBroken, err))
		return nil, err
	}
}

// read reads what the child writes, line by line.
func (p *process) read() {
	r := bufio.NewReaderSize(p.stdout, 16<<10)
	for {
		line, err := readLine(r, p.t.cfg.MaxMessage)
		switch {
		case errors.Is(err, errLongLine):
			p.t.dropped.Add(1)
			p.d.failCalls(tooLarge(p.t.cfg.MaxMessage))
			continue
		case err != nil:
			p.d.fail(fmt.Errorf("%w: the process closed its output", errBroken))
			return
		}
		if line = trim(line); len(line) > 0 {
			p.d.receive(line)
		}
	}
}

var errLongLine = errors.New("the line is too long")

// readLine reads a line of at most max bytes, which the caller keeps. Of one
// that is longer it reads the rest and returns errLongLine. What comes before the end of the input
// without a line break is no line.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max+1 {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case err == nil && long:
			return nil, errLongLine
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// trim returns line without white space at its ends.
func trim(line []byte) []byte {
	for len(line) > 0 && line[len(line)-1] <= ' ' {
		line = line[:len(line)-1]
	}
	for len(line) > 0 && line[0] <= ' ' {
		line = line[1:]
	}
	return line
}

// log logs what the child writes to stderr: so many lines a second, so much of
// each, without the values of the variables that it was given.
func (p *process) log() {
	var secrets []string
	for _, e := range p.t.cfg.Command.Env {
		if _, v, _ := strings.Cut(e, "="); len(v) >= 6 {
			secrets = append(secrets, v, "[redacted]")
		}
	}
	redact := strings.NewReplacer(secrets...)
	limit := rate.NewLimiter(stderrRate, stderrBurst)
	skipped := 0
	defer p.stderr.Close()
	r := bufio.NewReaderSize(p.stderr, 4<<10)
	for {
		// The longest secret could straddle the cut: the line is cut after it was redacted.
		line, err := readLine(r, 64<<10)
		if err != nil && !errors.Is(err, errLongLine) {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				p.t.log.Debug("reading stderr of the target", "error", err)
			}
			return
		}
		if !limit.Allow() || err != nil {
			skipped++
			continue
		}
		text := redact.Replace(strings.ToValidUTF8(string(trim(line)), "\uFFFD"))
		if len(text) > stderrLine {
			text = strings.ToValidUTF8(text[:stderrLine], "") + "…"
		}
		p.t.log.Info("stderr of the target", "line", text, "skipped", skipped)
		skipped = 0
	}
}

// tend waits for the child to end, or ends it: by closing its stdin, then with
// SIGTERM, then with SIGKILL, each for its whole group.
func (p *process) tend() {
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(done)
	}()
	asked := false
	select {
	case <-done:
	case <-p.stop:
		asked = true
	case <-p.t.ctx.Done():
		asked = true
		p.d.fail(errClosed)
	}
	if asked {
		_ = p.stdin.Close() // a child that is gone has nothing to close
		p.end(done)
	}
	<-done
	// What the child itself started ends with it.
	p.signal(syscall.SIGKILL)
	close(p.exited)
	p.t.log.Info("the process of the target ended", "state", p.cmd.ProcessState.String(), "asked", asked)
	p.t.children.exited(p.d, time.Since(p.begun), asked)
	// The reader may still find an answer in the pipe. A process that left the
	// group could keep it open for ever.
	drained := time.AfterFunc(time.Second, func() { _ = p.stdout.Close() })
	defer drained.Stop()
	if !asked {
		_ = p.stdin.Close()
	} else {
		_ = p.stdout.Close()
	}
	_ = p.stderr.SetReadDeadline(time.Now().Add(time.Second)) // then its reader gives up
	<-p.stop                                                  // the reader sees to that
	_ = p.stdout.Close()
}

// end ends a child whose stdin is closed.
func (p *process) end(done <-chan struct{}) {
	for _, step := range []struct {
		wait time.Duration
		then syscall.Signal
	}{{graceStdin, syscall.SIGTERM}, {graceTerm, syscall.SIGKILL}} {
		timer := time.NewTimer(step.wait)
		select {
		case <-done:
			timer.Stop()
			return
		case <-timer.C:
			p.signal(step.then)
		}
	}
}

// signal sends sig to the group of the child.
func (p *process) signal(sig syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig) // the group may be gone
}
