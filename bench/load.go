package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/procfs"
	"github.com/mcpgw/mcpgw/bench/internal/stats"
)

// openLoopConns is how many connections share the requests of the open loop.
const openLoopConns = 16

// loads starts a subject, runs both loads against it and stops it.
func (b *bench) loads(ctx context.Context, s *subject, round int) error {
	run, err := s.start(ctx)
	if err != nil {
		return err
	}
	if run.process != nil {
		defer run.stop()
	}
	closed, err := b.quiet(ctx, s, run, 0)
	if err != nil {
		return err
	}
	open, err := b.quiet(ctx, s, run, b.rate)
	if err != nil {
		return err
	}
	if b.profile != "" && s.name == "gateway" && round == b.rounds-1 {
		if err := b.profileLoad(ctx, run, ""); err != nil {
			return err
		}
	}
	s.rps = append(s.rps, closed.rps)
	s.cpu = append(s.cpu, closed.cpu)
	s.allocs = append(s.allocs, closed.allocs)
	s.p50, s.p99 = append(s.p50, open.p50), append(s.p99, open.p99)
	s.foreign = append(s.foreign, max(closed.foreign, open.foreign))
	fmt.Fprintf(os.Stderr, "round %d %-12s %6.0f/s %6.1f µs CPU %6.1f allocations, p50 at %.0f/s %6.0f µs, other work %.2f processors\n",
		round+1, s.name, closed.rps, closed.cpu, closed.allocs, b.rate, open.p50, max(closed.foreign, open.foreign))
	return nil
}

// quiet runs a load until nothing else disturbs it, at most as often as the
// options say, and returns the least disturbed run.
func (b *bench) quiet(ctx context.Context, s *subject, run *running, rate float64) (best result, err error) {
	for i := range b.retries {
		r, err := b.load(ctx, run, rate)
		if err != nil {
			return result{}, err
		}
		if i == 0 || r.foreign < best.foreign {
			best = r
		}
		if r.foreign <= b.options.foreign {
			break
		}
	}
	return best, nil
}

// A result is what one run of a load measured, times in microseconds.
type result struct {
	rps     float64
	cpu     float64 // of the subject, per request
	allocs  float64 // of the subject, per request
	p50     float64
	p99     float64
	foreign float64 // processors that other work held meanwhile
}

// A worker is one connection with its session and its latencies.
type worker struct {
	conn    *h1.Conn
	request []byte
	check   func(h1.Response) error
	first   bool
	took    []time.Duration
	err     error
}

// load runs one load: a closed loop over b.conns connections, or with a rate an
// open loop, in which requests are due at fixed instants whatever the subject
// does and the time counts from the instant due.
func (b *bench) load(ctx context.Context, run *running, rate float64) (result, error) {
	t, err := h1.Parse(run.url)
	if err != nil {
		return result{}, err
	}
	workers := make([]*worker, b.conns)
	if rate > 0 {
		workers = make([]*worker, openLoopConns)
		// A worker that sleeps in a system call until its request is due keeps
		// its P for up to 10 ms: give each its own.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(openLoopConns + 4))
	}
	for i := range workers {
		w := &worker{conn: h1.NewConn(t, 30*time.Second), took: make([]time.Duration, 0, 1<<14)}
		defer w.conn.Close()
		w.conn.Blocking = rate > 0
		prepare := callRequest
		w.check, w.first = checkCall, run.first
		if run.request != nil {
			prepare, w.check = run.request, run.check
		}
		if w.request, err = prepare(w.conn, t); err != nil {
			return result{}, err
		}
		workers[i] = w
	}
	start := time.Now().Add(10 * time.Millisecond)
	warm := start.Add(b.measured() / 4)
	end := warm.Add(b.measured())
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() {
			if rate > 0 {
				w.openLoop(start, warm, end, i, len(workers), rate)
			} else {
				w.closedLoop(warm, end)
			}
		})
	}
	before, err := b.sample(ctx, run, warm)
	wg.Wait()
	if err != nil {
		return result{}, err
	}
	after, err := b.sample(ctx, run, time.Time{})
	if err != nil {
		return result{}, err
	}
	var took []time.Duration
	for _, w := range workers {
		if w.err != nil {
			return result{}, w.err
		}
		took = append(took, w.took...)
	}
	if len(took) == 0 {
		return result{}, errors.New("no request was answered")
	}
	n, elapsed := float64(len(took)), after.at.Sub(before.at).Seconds()
	return result{
		rps:     n / elapsed,
		cpu:     float64((after.subject - before.subject).Microseconds()) / n,
		allocs:  float64(after.mallocs-before.mallocs) / n,
		p50:     float64(stats.Median(took).Nanoseconds()) / 1000,
		p99:     float64(stats.Quantile(took, 0.99).Nanoseconds()) / 1000,
		foreign: max(0, (after.busy-before.busy-after.ours+before.ours).Seconds()/elapsed),
	}, nil
}

// A sample is what was used up to an instant.
type sample struct {
	at                  time.Time
	subject, ours, busy time.Duration // processor time: of the subject, of all that is ours, of the machine
	mallocs             uint64
}

// sample waits until an instant and takes a sample.
func (b *bench) sample(ctx context.Context, run *running, when time.Time) (s sample, err error) {
	select {
	case <-time.After(time.Until(when)):
	case <-ctx.Done():
		return s, ctx.Err()
	}
	if run.debug != "" {
		m, err := memStats(ctx, run.debug, false)
		if err != nil {
			return s, err
		}
		s.mallocs = m["Mallocs"]
	}
	pids := []int{os.Getpid()} // of which the mock is a child
	if run.process != nil {
		s.subject = procfs.Tree(run.pid()).CPU
	}
	s.ours, s.busy, s.at = procfs.Tree(pids...).CPU, procfs.Busy(), time.Now()
	return s, nil
}

// once sends the request and checks the answer. It records how long that took
// since it was due, unless that was before recording begins.
func (w *worker) once(due, record time.Time) {
	r, err := w.conn.Do(w.request)
	now := w.timed(r)
	if err == nil {
		err = w.check(r)
	}
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	if !due.Before(record) {
		w.took = append(w.took, now.Sub(due))
	}
}

func (w *worker) closedLoop(warm, end time.Time) {
	for w.err == nil {
		now := time.Now()
		if now.After(end) {
			return
		}
		w.once(now, warm)
	}
}

func (w *worker) openLoop(start, warm, end time.Time, i, workers int, rate float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const setTimerSlack = 29 // prctl(2), PR_SET_TIMERSLACK: sleep to the nanosecond
	if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0); errno != 0 {
		w.err = errno
		return
	}
	gap := time.Duration(float64(time.Second) / rate)
	for n := i; w.err == nil; n += workers {
		due := start.Add(time.Duration(n) * gap)
		if due.After(end) {
			return
		}
		if sleepUntil(due) { // what our own timer overshoots is not the subject's
			due = time.Now()
		}
		w.once(due, warm)
	}
}

// sleepUntil sleeps until t, finer than time.Sleep does, and reports whether t
// was still to come.
func sleepUntil(t time.Time) bool {
	slept := false
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // cut short by a signal: sleep again
		slept = true
	}
	return slept
}
