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
// that is longer it reads the rest and returns errLongLine. What comes before
// the end of the input without a line break is no line.
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
		// The longest secret could straddle the cut: the line is cut after it was
		// redacted.
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
