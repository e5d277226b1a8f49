package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A responseWriter accounts for the answer in the record and applies the response
// header modifiers once. What else the server's own writer can do stays reachable
// through [http.ResponseController].
type responseWriter struct {
	http.ResponseWriter
	rec       *telemetry.Record
	request   *policy.Request     // what services add to the answer
	modifiers [3][]headerModifier // of the rule, of the backend reference, and for pages of other origins
	server    serverHeader
	logged    *logged // nil where nothing is logged
	wrote     bool
	taken     bool      // the connection was hijacked
	detached  *detached // once Detach has taken the answer
	idle      *idleness // nil where nothing ends it
}

// Unwrap returns the server's writer, for [http.ResponseController].
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *responseWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.wrote = true
		w.rec.Status = status
		w.idle.answers()
		w.request.ApplyResponse(w.Header())
		w.Modify(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// Modify changes the header of the answer as routes and policies say. It is for whoever writes an answer to
// a connection that was hijacked.
func (w *responseWriter) Modify(h http.Header) {
	for _, ms := range w.modifiers {
		for i := range ms {
			ms[i].apply(h)
		}
	}
	w.server.apply(h)
	w.logged.answers(h)
	w.rec.Events().Add(telemetry.Answering, "")
}

// Write implements [http.ResponseWriter].
func (w *responseWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.idle.write(w.ResponseWriter, b)
	w.rec.BytesSent += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom], so that net/http can copy without a buffer.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.idle != nil { // which has to know of each write
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.rec.BytesSent += n
	return n, err
}

// FlushError implements what [http.ResponseController] flushes with.
func (w *responseWriter) FlushError() error {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements [http.Flusher].
func (w *responseWriter) Flush() {
	_ = w.FlushError() // the next write says so, too
}

// Hijack implements [http.Hijacker].
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.wrote, w.taken = true, true
	w.idle.answers()
	if c, ok := conn.(*wire); ok {
		c.stepAside()
	}
	conn, rw = w.idle.hijacked(conn, rw)
	return conn, rw, nil
}

// A requestBody accounts for the body of a request, and gives up on a client that
// sends it too slowly: a time of grace, and a second for each KiB. Once the port is closed, it gives up on any.
type requestBody struct {
	io.ReadCloser
	rec    *telemetry.Record
	w      http.ResponseWriter
	grace  *lifetime.Watchdog // nil when all of it is there
	watch  lifetime.Watch
	port   context.Context // ends when the port is closed
	onPort lifetime.Hook   // on that
	unport func() bool     // stops it
	slow   bool            // what follows of it is not there
	idle   *idleness       // nil where nothing ends it
	ended  bool            // it was read to its end
	logged *logged         // nil where nothing is logged

	mu    sync.Mutex
	begun bool      // it is watched
	start time.Time // of the first read
	read  int64
	over  bool // nobody waits for more
	late  bool // it was given up
}

// slowest is how slow a client may be, in bytes a second.
const slowest = 1 << 10

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	watched := b.watched()
	n, err := b.idle.read(b.ReadCloser, p)
	b.rec.BytesRead += int64(n)
	if err == io.EOF && !b.ended {
		b.ended = true
		b.rec.Events().Add(telemetry.RequestRead, "")
		b.logged.bodyEnded()
	}
	if !watched {
		return n, err
	}
	if err == nil {
		b.mu.Lock()
		b.read += int64(n)
		b.mu.Unlock()
		return n, nil
	}
	switch {
	case err == io.EOF:
	case b.port.Err() != nil:
		b.slow = true
		err = errDraining
	case os.IsTimeout(err):
		b.slow = true
		err = fault.Wrap(fault.RequestTimeout, err, "the request body came too slowly")
	}
	b.release()
	return n, err
}

// watched has the client be watched, if it is to be.
func (b *requestBody) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun && b.grace != nil {
		b.begun = true
		b.start = time.Now()
		b.grace.Start(&b.watch, b.check)
		b.unport = lifetime.AfterFunc(b.port, &b.onPort, b.giveUp)
	}
	return b.begun
}

// check gives up on the client unless it has sent enough by now.
func (b *requestBody) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	allowed := b.grace.After + time.Duration(b.read)*time.Second/slowest
	switch left := time.Until(b.start.Add(allowed)); {
	case b.over:
	case left > 0:
		b.watch.ResetTo(left)
	default:
		b.endRead()
	}
}

// giveUp gives up on the client, whatever it has sent.
func (b *requestBody) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.endRead()
	}
}

// endRead ends a read that waits, and all others. The caller holds mu.
func (b *requestBody) endRead() {
	b.late = true
	_ = http.NewResponseController(b.w).SetReadDeadline(time.Unix(1, 0)) // a closed connection needs none
}

// abandon bounds how long net/http waits for what nobody has read of the body, before it answers.
func (b *requestBody) abandon() {
	if b.ReadCloser != nil && b.grace != nil && !b.ended && !b.slow {
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Now().Add(b.grace.After)) // a closed connection needs none
	}
}

// Close implements [io.Closer].
func (b *requestBody) Close() error {
	b.release()
	return b.ReadCloser.Close()
}

// release ends the watch, as nobody waits for more. The deadline, if there is one now, would otherwise end a long answer.
func (b *requestBody) release() {
	b.mu.Lock()
	begun := b.begun
	b.mu.Unlock()
	if !begun {
		return
	}
	b.watch.Stop()
	b.unport()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over && b.late && !b.slow {
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{}) // likewise
	}
	b.over = true
}
