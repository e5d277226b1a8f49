package llm

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/price"
)

// An output is the answer to the client of a query. While a stream is silent it sends
// comments, so that nobody on the way gives up.
type output struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	clocks *Clocks
	array  bool // a stream is one JSON array, not events
	cost   bool // a stream ends with a trailer that says what it costs

	mu    sync.Mutex  // held while something is written
	timer *time.Timer // of a stream, from watch to end
	began bool        // the head of a stream was sent
	first bool        // and a part of it: an array has begun
	ended bool
	last  time.Time // when something was sent last
	batch []byte    // goes before anything else
}

// costHeader is where a client reads what its answer costs, in US dollars.
const costHeader = "X-Mcpgw-Cost"

// maxBatch is from how many bytes on a batch is sent before what comes with it was read.
const maxBatch = 16 << 10

// watch begins to watch the silence of a stream.
func (o *output) watch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = time.Now()
	o.timer = time.AfterFunc(o.clocks.Silence, o.comment)
}

// comment breaks the silence.
func (o *output) comment() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	if since := time.Since(o.last); o.began && since < o.clocks.Comment {
		o.timer.Reset(o.clocks.Comment - since)
		return
	}
	comment := events.Keepalive
	if o.array {
		comment = "\n" // which is nothing, between elements
	}
	if o.write([]byte(comment)) == nil { // otherwise the request ends by itself
		o.timer.Reset(o.clocks.Comment)
	}
}

// write sends a part of a stream, after what waits; mu is held.
func (o *output) write(b []byte) error {
	if len(o.batch) > 0 {
		b = append(o.batch, b...)
		o.batch = b[:0]
	}
	if !o.began {
		o.began = true
		o.w.Header()["Content-Type"] = []string{"text/event-stream"}
		if o.array {
			o.w.Header()["Content-Type"] = []string{"application/json"}
		}
		o.w.Header()["Cache-Control"] = []string{"no-cache"}
		if o.cost {
			o.w.Header()["Trailer"] = []string{costHeader}
		}
		o.w.WriteHeader(http.StatusOK)
	}
	o.last = time.Now()
	if _, err := o.w.Write(b); err != nil {
		return gone(err)
	}
	if err := o.rc.Flush(); err != nil {
		return gone(err)
	}
	return nil
}

// send sends a part of a stream, with the next flush at the latest.
func (o *output) send(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.batch)+len(b) >= maxBatch {
		return o.part(b)
	}
	o.batch = append(o.batch, o.begin(b)...)
	return nil
}

// flush sends what waits.
func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drain()
}

// drain is flush for who holds mu.
func (o *output) drain() error {
	if len(o.batch) == 0 {
		return nil
	}
	return o.write(nil)
}

// part sends a part of a stream; mu is held.
func (o *output) part(b []byte) error { return o.write(o.begin(b)) }

// begin returns b as a part of a stream, of which it may be the first; mu is held.
func (o *output) begin(b []byte) []byte {
	if o.array && !o.first && len(b) > 0 {
		b[0] = '[' // in place of the comma before the first element
	}
	o.first = true
	return b
}

// open reports whether the head of a stream was sent, or is about to be.
func (o *output) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.began || len(o.batch) > 0
}

// head calls f with the header of the answer, if it was not sent yet.
func (o *output) head(f func(http.Header)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.began {
		f(o.w.Header())
	}
}

// costs says what an answer costs: in its header, or in the trailer of a stream.
func (o *output) costs(n price.Nano) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w.Header()[costHeader] = []string{n.String()}
}

// end stops watching. Nothing is written afterwards.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.timer != nil {
		o.timer.Stop()
	}
}

// fail answers q with a failure: as an answer of its own, or as the end of a stream that
// has begun.
func (o *output) fail(q *query, f *failure) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.drain(); err != nil {
		return err
	}
	e, h := f.says, http.Header(nil)
	if e == nil {
		e, h = canonicalError(ofProvider(f.err))
	}
	q.rec.Err = f.err
	if q.rec.ErrorType = fault.Of(f.err).Code.String(); f.says != nil {
		q.rec.ErrorType = strconv.Itoa(e.Status)
	}
	switch {
	case o.began:
		if q.writer == nil {
			q.writer = q.codec.NewWriter(dialect.WriterOptions{})
		}
		return o.part(q.writer.Error(nil, e))
	case f.body != nil:
		answerHeaders(o.w.Header(), f.header)
		o.w.Header()["Content-Type"] = []string{"application/json"}
		o.w.WriteHeader(e.Status)
		body := f.body
		if o.array {
			body = gemini.EncloseElement(body)
		}
		if _, err := o.w.Write(body); err != nil {
			return gone(err)
		}
	default:
		answerHeaders(o.w.Header(), f.header)
		writeError(o.w, q.codec, e, h)
	}
	return nil
}

// ofProvider returns an error of the connection to a provider as the client may read it.
func ofProvider(err error) error {
	if f := fault.Of(err); f.Code != fault.Internal {
		return f
	}
	return fault.Wrap(fault.UpstreamFailed, err, "the provider failed")
}
