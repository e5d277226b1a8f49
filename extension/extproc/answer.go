package extproc

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An answer is the [http.ResponseWriter] of what answers a request: it takes the answer through the processor.
type answer struct {
	x    *exchange
	w    http.ResponseWriter
	req  *http.Request
	head http.Header // as it is being written; that of w is set when it goes on

	status   int
	wrote    bool // a head was written
	sent     bool // the head has gone on
	bodyless bool // nothing can follow it
	mode     BodyMode
	held     []byte // of the body, in the modes that hold
	passing  bool   // the rest goes on as it is
	replaced bool   // the processor has said all that there is
	hijacked bool
	duplex   *duplexWriter
}

// errReplaced tells who answers that nobody listens any more.
var errReplaced = errors.New("the external processor has replaced the answer")

func newAnswer(x *exchange, w http.ResponseWriter, r *http.Request) *answer {
	return &answer{x: x, w: w, req: r, head: w.Header().Clone()}
}

// from has the request r answered. It returns what conclude wants to know.
func (a *answer) from(r *http.Request) (err error, panicked any) { //nolint:revive // an error is the usual case
	defer func() {
		panicked = recover()
		if panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			panic(panicked)
		}
	}()
	if a.head == nil {
		a.head = http.Header{}
	}
	err = a.x.call.Next(a, r, &a.x.change)
	if err == nil {
		a.finish()
	}
	return err, nil
}

// conclude ends the answer: it says what the verdict is, if there is one, and else what came of the answer.
func (a *answer) conclude(err error, panicked any) error {
	if a.x.pump != nil {
		a.x.pump.stop(a.w)
	}
	if a.duplex != nil {
		a.duplex.abort()
	}
	rec := telemetry.FromContext(a.x.ctx)
	verdict := a.x.ruled()
	var i *immediate
	switch {
	case a.hijacked:
	case errors.As(verdict, &i):
		rec.ErrorType, rec.Err = "", nil
		if a.sent {
			return fault.Wrap(fault.Denied, i, "the external processor ended the answer")
		}
		return a.immediately(i, rec)
	case verdict != nil:
		rec.ErrorType, rec.Err = "", nil // or what came of it hides the reason
		return verdict
	case a.replaced:
		rec.ErrorType, rec.Err = "", nil
		return nil
	}
	if panicked != nil {
		if !a.sent && !a.hijacked {
			code, ok := fault.Parse(rec.ErrorType)
			if !ok {
				code = fault.UpstreamFailed
			}
			return fault.Wrap(code, rec.Err, "the answer ended early")
		}
		panic(panicked)
	}
	return err
}

// immediately answers as the processor says.
func (a *answer) immediately(i *immediate, rec *telemetry.Record) error {
	status := int(i.GetStatus().GetCode())
	if status < 200 || status > 599 {
		status = http.StatusOK // as Envoy has it
	}
	h := head{header: http.Header{"Content-Type": {"text/plain"}}}
	if err := h.apply(i.GetHeaders()); err != nil {
		return failed(err)
	}
	if g := i.GetGrpcStatus(); g != nil {
		h.header["Grpc-Status"] = []string{strconv.FormatUint(uint64(g.GetStatus()), 10)}
	}
	out := a.w.Header()
	delete(out, "Content-Length")
	maps.Copy(out, h.header)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		out["Content-Length"] = []string{strconv.Itoa(len(i.GetBody()))}
	}
	if status >= http.StatusBadRequest {
		rec.ErrorType, rec.Err = fault.Denied.String(), i
	}
	a.w.WriteHeader(status)
	_, _ = a.w.Write(i.GetBody()) // a client that is gone needs none
	return nil
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.head }

// Unwrap returns the writer behind, for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.w }

// WriteHeader implements [http.ResponseWriter]. Informational answers and that of a switch of protocols are not looked at.
func (a *answer) WriteHeader(status int) {
	if a.wrote {
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		a.inform(status)
		return
	}
	a.wrote, a.status = true, status
	if a.x.ruled() != nil {
		return
	}
	if status == http.StatusSwitchingProtocols {
		a.passing = true
		a.x.finish()
		a.commit()
		return
	}
	length := a.head["Content-Length"]
	a.bodyless = a.bodyless || a.req.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified || len(length) == 1 && length[0] == "0"
	x := a.x
	if x.mode.ResponseBody == FullDuplex && !a.bodyless && !x.isOver() {
		a.mode = FullDuplex
		a.duplex = newDuplexWriter(a, x.mode.ResponseHeaders)
		return
	}
	if x.mode.ResponseHeaders && !a.consultHead() {
		return
	}
	if x.isOver() || a.bodyless {
		a.passing = true
		a.commit()
		return
	}
	switch a.mode = x.mode.ResponseBody; a.mode {
	case None:
		a.commit()
	case Streamed:
		delete(a.head, "Content-Length")
		a.commit()
	case FullDuplex:
		a.duplex = newDuplexWriter(a, false)
	}
}

// inform sends an informational answer on.
func (a *answer) inform(status int) {
	if a.sent || a.x.ruled() != nil {
		return
	}
	h := a.w.Header()
	kept := maps.Clone(h)
	clear(h)
	maps.Copy(h, a.head)
	a.w.WriteHeader(status)
	clear(h)
	maps.Copy(h, kept)
}

// headMessage returns the message of the head.
func (a *answer) headMessage() *question {
	return ofHeaders(response, headerMap(a.head, nil, ":status", strconv.Itoa(a.status)), a.bodyless)
}

// consultHead takes the head through the processor. It reports whether the answer goes on.
func (a *answer) consultHead() bool {
	r, err := a.x.consult(response, headers, a.headMessage())
	if r == nil || err != nil {
		return err == nil
	}
	a.x.override(r.GetModeOverride(), response)
	return a.change(r)
}

// change changes the head as the processor has it. It reports whether the answer goes on: it does not after a verdict, and when
// the processor has replaced it, which then was sent.
func (a *answer) change(r *reply) bool {
	c := common(r)
	status := a.status
	h := head{header: a.head.Clone(), status: &status}
	err := h.apply(c.GetHeaderMutation())
	var b []byte
	if err == nil && replaces(c) {
		b, err = mutated(c.GetBodyMutation(), nil)
	}
	if err != nil {
		return a.x.wrong(err) == nil
	}
	a.head, a.status = h.header, status
	if !replaces(c) {
		return true
	}
	a.replaced = true
	a.length(len(b))
	delete(a.head, "Trailer")
	a.commit()
	_, _ = a.w.Write(b)                         // a client that is gone is noticed
	_ = http.NewResponseController(a.w).Flush() // likewise
	return false
}

// length says how long the body is.
func (a *answer) length(n int) {
	delete(a.head, "Content-Length")
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		a.head["Content-Length"] = []string{strconv.Itoa(n)}
	}
}

// commit sends the head on.
func (a *answer) commit() {
	if a.sent {
		return
	}
	a.sent = true
	h := a.w.Header()
	clear(h)
	maps.Copy(h, a.head)
	a.w.WriteHeader(a.status)
}

// stopped returns why nothing more is taken; nil if it is.
func (a *answer) stopped() error {
	if a.replaced {
		return errReplaced
	}
	return a.x.ruled()
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	if !a.wrote {
		a.WriteHeader(http.StatusOK)
	}
	for done := 0; ; {
		if err := a.stopped(); err != nil {
			return done, err
		}
		n := min(len(p)-done, chunk)
		if err := a.write(p[done : done+n]); err != nil {
			return done, err
		}
		if done += n; done == len(p) {
			return done, nil
		}
	}
}

func (a *answer) write(p []byte) error {
	switch {
	case a.passing || a.mode == None:
		_, err := a.w.Write(p)
		return err
	case a.mode == FullDuplex:
		return a.duplex.write(p)
	case a.mode == Streamed:
		out, err := a.x.piece(response, p, false)
		if err == nil && len(out) > 0 {
			_, err = a.w.Write(out)
		}
		return err
	}
	if room := maxHeld - len(a.held); len(p) > room {
		if a.mode == Buffered {
			return a.x.decide(fault.New(fault.Internal, "the answer is over the limit of %d bytes", maxHeld))
		}
		a.held = append(a.held, p[:room]...)
		if err := a.release(false); err != nil {
			return err
		}
		_, err := a.w.Write(p[room:])
		return err
	}
	a.held = append(a.held, p...)
	return nil
}

// release takes what is held through the processor and sends it on, with the head. Where the body has not ended, the rest passes.
func (a *answer) release(ended bool) error {
	trailed := ended && a.trailed()
	r, err := a.x.consult(response, body, ofBody(response, a.held, ended && !trailed))
	if err != nil {
		return err
	}
	a.passing = true
	b := a.held
	a.held = nil
	if r != nil {
		out, err := mutated(common(r).GetBodyMutation(), b)
		if err != nil {
			err = a.x.wrong(err)
		} else if a.change(r) && !a.x.isOver() {
			b = out
		}
		if err == nil {
			err = a.stopped()
		}
		if err != nil {
			return err
		}
	}
	delete(a.head, "Content-Length")
	if ended && !trailed {
		a.length(len(b))
	}
	a.commit()
	_, err = a.w.Write(b)
	return err
}

// finish ends the answer once all of it was written.
func (a *answer) finish() {
	if a.hijacked {
		return
	}
	if !a.wrote {
		a.bodyless = true
		a.WriteHeader(http.StatusOK)
	}
	if a.duplex != nil {
		a.duplex.end()
		return
	}
	if a.stopped() != nil || a.status == http.StatusSwitchingProtocols {
		return
	}
	trailer := a.trailer()
	switch {
	case a.passing: // nothing more is looked at
	case a.mode == Streamed && !(a.x.mode.ResponseTrailers && len(trailer) > 0):
		if out, err := a.x.piece(response, nil, true); err == nil && len(out) > 0 {
			_, _ = a.w.Write(out) // a client that is gone is noticed
		}
	case a.mode == Buffered || a.mode == BufferedPartial:
		if a.release(true) != nil {
			return
		}
	}
	if len(trailer) == 0 || a.stopped() != nil {
		return
	}
	if a.x.mode.ResponseTrailers && !a.x.isOver() {
		if a.x.consultTrailers(response, trailer) != nil {
			return
		}
	}
	a.sendTrailer(trailer)
}

// trailed reports whether the processor is to see trailers.
func (a *answer) trailed() bool { return a.x.mode.ResponseTrailers && len(a.trailer()) > 0 }

// trailer returns the trailers that were written.
func (a *answer) trailer() http.Header {
	out := http.Header{}
	for _, line := range a.head["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if v, ok := a.head[name]; ok && name != "" {
				out[name] = v
			}
		}
	}
	for name, v := range a.head {
		if after, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			out[http.CanonicalHeaderKey(after)] = v
		}
	}
	return out
}

// sendTrailer sends trailers on.
func (a *answer) sendTrailer(trailer http.Header) {
	h := a.w.Header()
	announced := map[string]bool{}
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			announced[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	for name, v := range trailer {
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		h[name] = v
	}
}

// FlushError implements what [http.ResponseController] flushes with.
func (a *answer) FlushError() error {
	if !a.wrote {
		a.WriteHeader(http.StatusOK)
	}
	if err := a.stopped(); err != nil {
		return err
	}
	if !a.sent || a.duplex != nil {
		return nil // it is held, or flushed as it comes
	}
	return http.NewResponseController(a.w).Flush()
}

// Flush implements [http.Flusher].
func (a *answer) Flush() {
	_ = a.FlushError() // the next write says so, too
}

// Hijack implements [http.Hijacker]: what follows is not looked at.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := a.stopped(); err != nil {
		return nil, nil, err
	}
	conn, rw, err := http.NewResponseController(a.w).Hijack()
	if err == nil {
		a.hijacked, a.sent = true, true
		a.x.finish()
	}
	return conn, rw, err
}
