package telemetry

import (
	"io"
	"sync"
	"time"
)

const (
	maxLines  = 64 << 10               // bytes that Lines holds back
	linesWait = 100 * time.Millisecond // and for how long
)

// Lines gathers the lines of a log and writes many of them at once, so that a
// busy gateway does not pay for a system call with each request. What it holds
// back is bounded in bytes and in time: 64 KiB and 100 ms. A slow writer makes
// those wait who log more than that. It is safe for concurrent use.
type Lines struct {
	w io.Writer

	mu     sync.Mutex
	held   []byte
	timer  *time.Timer // flushes what is held; runs while something is
	err    error       // of the last write to w, for the next caller
	closed bool
}

// NewLines returns a Lines that writes to w. Close writes what is left.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// Write takes one or more whole lines. An error may be that of an earlier Write,
// whose lines are lost. After Close it writes at once.
func (l *Lines) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.w.Write(lines)
	}
	first := len(l.held) == 0
	l.held = append(l.held, lines...)
	switch {
	case len(l.held) >= maxLines:
		l.flush()
	case first && l.timer == nil:
		l.timer = time.AfterFunc(linesWait, l.expire)
	case first:
		l.timer.Reset(linesWait)
	}
	err := l.err
	l.err = nil
	if err != nil {
		return 0, err
	}
	return len(lines), nil
}

// expire writes what was held long enough.
func (l *Lines) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush writes what is held.
func (l *Lines) flush() {
	if len(l.held) == 0 {
		return
	}
	if _, err := l.w.Write(l.held); err != nil {
		l.err = err
	}
	l.held = l.held[:0]
	if cap(l.held) > 2*maxLines {
		l.held = nil
	}
}

// Close writes what is held and returns the error of the last write. It does not
// close the writer.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.flush()
	l.closed = true
	err := l.err
	l.err = nil
	return err
}
