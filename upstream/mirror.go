package upstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// The bounds of what is copied.
const (
	// maxMirrored bounds the copies that are under way to a pool at one time.
	maxMirrored = 128
	// maxMirrorLag bounds how far a copy may be behind what the request itself has read of its body.
	maxMirrorLag = 512 << 10
	// mirrorPatience bounds how long a copy waits for more of its body, and then for its answer.
	mirrorPatience = 30 * time.Second
	// maxMirrorDrain bounds what is read of an answer, so that its connection can be used again.
	maxMirrorDrain = 64 << 10
)

// A MirrorResult says what became of a copy.
type MirrorResult uint8

// The results.
const (
	// Mirrored is that it was answered, whatever the answer.
	Mirrored MirrorResult = iota
	// MirrorFailed is that it was not.
	MirrorFailed
	// MirrorDropped is that it was not sent, or not to its end: too many were under way, it was too far behind, or the
	// request itself ended before its body.
	MirrorDropped
)

// String returns the result as metrics have it.
func (r MirrorResult) String() string { return [...]string{"sent", "failed", "dropped"}[r] }

// A Mirror sends copies of requests to a [Pool] and throws the answers away (Gateway API, HTTPRequestMirrorFilter). The
// requests themselves never wait for it. It is not changed once it is used, and safe for concurrent use.
type Mirror struct {
	// Pool is where copies go.
	Pool *Pool
	// Of Denominator requests Numerator are copied; a Denominator of 0 means all.
	Numerator, Denominator int
	// Base ends the copies under way, which Running counts.
	Base    context.Context
	Running *sync.WaitGroup
	// Done is told what became of each copy. It may be nil.
	Done func(MirrorResult)
}

// Copy sends a copy of r, of which nothing was read yet, unless it is not one of those that are copied. It returns r as
// it is to be served: with a body that is read for both. The copy has its body as it is read, and what it has not got
// when the context of r ends it never gets.
func (m *Mirror) Copy(r *http.Request) *http.Request {
	if m.Denominator > 0 && rand.N(m.Denominator) >= m.Numerator {
		return r
	}
	if upgradeType(r.Header) != "" { // a copy could not follow
		return r
	}
	if m.Pool.mirrored.Add(1) > maxMirrored {
		m.Pool.mirrored.Add(-1)
		m.done(MirrorDropped)
		return r
	}
	ctx, cancel := context.WithCancelCause(m.Base)
	patience := time.AfterFunc(mirrorPatience, func() { cancel(errTry) })
	out := outgoing(r, "").WithContext(ctx)
	served := r
	switch {
	case out.Body == nil:
	case r.GetBody != nil:
		var err error
		if out.Body, err = r.GetBody(); err != nil {
			out.Body = http.NoBody
			cancel(err)
		}
		out.GetBody = r.GetBody
	default:
		p := &pipe{drop: cancel, patience: patience}
		p.news.L = &p.mu
		p.forget = context.AfterFunc(r.Context(), func() { p.end(errUnfinished) })
		out.Body = p
		served = r.WithContext(r.Context())
		served.Body = &tee{r.Body, p}
	}
	m.Running.Go(func() {
		defer m.Pool.mirrored.Add(-1)
		defer cancel(nil)
		m.done(m.send(out))
		patience.Stop()
	})
	return served
}

func (m *Mirror) done(r MirrorResult) {
	if m.Done != nil {
		m.Done(r)
	}
}

// send sends a copy.
func (m *Mirror) send(out *http.Request) MirrorResult {
	resp, err := m.Pool.RoundTrip(out)
	var dropped *dropError
	switch {
	case err == nil:
		_, _ = io.CopyN(io.Discard, resp.Body, maxMirrorDrain) // nobody reads it
		_ = resp.Body.Close()
		return Mirrored
	case errors.As(err, &dropped) || errors.As(context.Cause(out.Context()), &dropped):
		return MirrorDropped
	default:
		return MirrorFailed
	}
}

// A dropError says why a copy is not sent to its end.
type dropError struct{ text string }

func (e *dropError) Error() string { return e.text }

var (
	errBehind     = &dropError{"the copy is too far behind"}
	errUnfinished = &dropError{"the request ended before its body"}
)

// A tee is the body of a request of which there is a copy.
type tee struct {
	io.ReadCloser
	copy *pipe
}

// Read implements [io.Reader].
func (t *tee) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	t.copy.put(b[:n])
	switch {
	case err == io.EOF:
		t.copy.end(io.EOF)
	case err != nil:
		t.copy.end(errUnfinished)
	}
	return n, err
}

// A pipe is the body of a copy: what was read of that of the request itself, and not yet of it.
type pipe struct {
	drop     context.CancelCauseFunc // ends the copy
	forget   func() bool             // that the request may end before its body
	patience *time.Timer

	mu     sync.Mutex
	news   sync.Cond
	kept   []byte
	err    error // after kept; io.EOF is well
	closed bool
}

// put adds what was read, and never waits.
func (p *pipe) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.err != nil || len(b) == 0:
		return
	case len(p.kept)+len(b) > maxMirrorLag:
		p.kept, p.err = nil, errBehind
		p.drop(errBehind)
	default:
		p.kept = append(p.kept, b...)
		p.patience.Reset(mirrorPatience)
	}
	p.news.Broadcast()
}

// end says how the body ended.
func (p *pipe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.err != nil {
		return
	}
	if p.err = err; err != io.EOF {
		p.kept = nil
		p.drop(err)
	} else {
		p.forget()
		p.patience.Reset(mirrorPatience)
	}
	p.news.Broadcast()
}

// Read implements [io.Reader], for the copy.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.kept) == 0 {
		switch {
		case p.closed:
			return 0, http.ErrBodyReadAfterClose
		case p.err != nil:
			return 0, p.err
		}
		p.news.Wait()
	}
	n := copy(b, p.kept)
	if p.kept = p.kept[n:]; len(p.kept) == 0 {
		p.kept = nil
	}
	return n, nil
}

// Close implements [io.Closer], for the copy.
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.kept = true, nil
	p.news.Broadcast()
	return nil
}
