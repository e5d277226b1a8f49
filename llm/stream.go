package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A framing says how a stream is cut into events.
type framing struct {
	mediaType string
	read      func(io.Reader) eventReader
}

// An eventReader takes events off the wire. Its errors are io.EOF where the stream may end,
// a *[dialect.Error] for what the provider says, and any other for a stream that is
// malformed.
type eventReader interface {
	Next() (events.Event, error)
}

// serverSent is the framing of server-sent events.
var serverSent = framing{"text/event-stream", func(r io.Reader) eventReader { return events.NewReader(r, maxEvent) }}

// framing returns how the provider's stream is cut.
func (a *attempt) framing() framing {
	if v, ok := a.vendor.(framer); ok {
		return v.framing()
	}
	return serverSent
}

// A stream is an answer that is passed on as it comes.
type stream struct {
	*attempt
	clock  *time.Timer // runs while the provider is waited for
	cancel context.CancelCauseFunc

	reader  dialect.StreamReader
	writer  dialect.StreamWriter // nil when bytes are passed
	held    []byte               // before the first content
	total   int                  // bytes of events
	buf     []byte
	content bool // there was some: nobody else can answer any more

	wire      *wireGuard  // checks what is passed as bytes; nil checks nothing
	guarded   *eventGuard // checks what is translated; nil checks nothing
	webhook   bool        // the whole answer is collected, and shown to a webhook
	begun     bool        // there was some content in what was collected
	collected []collected
	ended     bool // the answer is complete
}

// pass passes events on until the answer has ended. Before the first content it returns
// a failure; after it a break is told to the client.
func (s *stream) pass(resp *http.Response) (*failure, error) {
	s.reader = s.dialect.NewReader()
	if !s.same {
		s.writer = s.codec.NewWriter(s.writerOptions())
	}
	s.query.writer = s.writer
	s.out.head(func(h http.Header) { answerHeaders(h, resp.Header) })
	s.checked()
	wire := s.framing().read(resp.Body)
	ready, _ := wire.(interface{ Ready() bool })
	for {
		if ready == nil || !ready.Ready() { // what comes together goes on together
			if err := s.out.flush(); err != nil {
				return nil, err
			}
		}
		ev, err := wire.Next()
		s.clock.Stop() // a client that reads slowly is not the provider's fault
		if err == io.EOF {
			return s.closed()
		}
		if err != nil {
			return s.breaks(err)
		}
		if ev.Data == nil || s.ended {
			continue
		}
		if s.total += len(ev.Data); s.total > maxAnswer { // of which a dialect may keep the whole
			return s.breaks(errTooLarge)
		}
		said, err := s.reader.Read(ev.Type, ev.Data)
		if err != nil {
			return s.breaks(err)
		}
		waited := !s.content
		if s.webhook {
			if f, err := s.collect(&ev, said); f != nil || err != nil {
				return f, err
			}
		} else if f, err := s.take(&ev, said); f != nil || err != nil {
			return f, err
		}
		if s.refused != nil {
			return nil, nil
		}
		if waited && s.content { // it is waited for: what came with it need not be read before
			if err := s.out.flush(); err != nil {
				return nil, err
			}
		}
		if s.content || s.begun {
			s.clock.Reset(s.cfg.Clocks.Idle)
		} else if f := s.await(); f != nil {
			return f, nil
		}
	}
}

// await lets the clock of the first content run on.
func (s *stream) await() *failure {
	left := s.cfg.Clocks.FirstContent - time.Since(s.sent)
	if left <= 0 {
		return &failure{err: errFirstContent}
	}
	s.clock.Reset(left)
	return nil
}

// take sends an event of the provider.
func (s *stream) take(ev *events.Event, said []dialect.Event) (*failure, error) {
	var err error
	if s.buf, err = s.encode(s.buf[:0], ev, said); err != nil {
		return s.unfit(err)
	}
	return s.forward(said)
}

// encode appends what the client reads of an event. Its error is that of a guard.
func (s *stream) encode(dst []byte, ev *events.Event, said []dialect.Event) ([]byte, error) {
	if s.writer == nil {
		if s.hide && len(said) == 1 && said[0].Kind == dialect.UsageKnown {
			return dst, nil
		}
		if s.wire == nil {
			return s.write(dst, ev), nil
		}
		err := s.wire.pass(ev, func(ev events.Event) { dst = s.write(dst, &ev) })
		return dst, err
	}
	if s.guarded != nil {
		var err error
		if said, err = s.guarded.pass(said); err != nil {
			return dst, err
		}
	}
	for i := range said {
		dst = s.writer.Write(dst, &said[i])
	}
	return dst, nil
}

// write appends an event of the provider's dialect.
func (s *stream) write(dst []byte, ev *events.Event) []byte {
	if s.out.array {
		return gemini.AppendElement(dst, ev.Data)
	}
	return events.Append(dst, *ev)
}

// forward sends what was encoded, or holds it back while there is no content.
func (s *stream) forward(said []dialect.Event) (*failure, error) {
	for i := range said {
		s.keep(&said[i])
	}
	if s.content && s.silent() && len(s.held)+len(s.buf) <= maxHeld {
		s.held = append(s.held, s.buf...)
		return nil, nil
	}
	if !s.content {
		if len(s.held)+len(s.buf) > maxHeld {
			return failed(errors.New("the stream holds too much before its first content")), nil
		}
		s.held = append(s.held, s.buf...)
		return nil, nil
	}
	b := s.buf
	if s.held != nil {
		b, s.held = append(s.held, s.buf...), nil
	}
	if len(b) == 0 {
		return nil, nil
	}
	return nil, s.out.send(b)
}

// keep notes for the record what an event says.
func (s *stream) keep(e *dialect.Event) {
	switch e.Kind {
	case dialect.Start:
		s.note(e.Model, dialect.Usage{})
	case dialect.UsageKnown:
		s.note("", e.Usage)
	case dialect.Finish:
		s.rec.LLM.FinishReason = e.Reason.String()
	case dialect.Lost:
		if !s.same {
			s.lose(e.Text)
		}
	case dialect.End:
		s.ended = true
	}
	if !s.content && e.IsContent() {
		s.content = true
		s.delivered = true
		s.attempt.content = time.Now()
		s.rec.LLM.FirstContent = s.attempt.content.Sub(s.rec.Start)
		telemetry.EventsOf(s.within).Add(telemetry.FirstContent, "")
	}
}

// closed takes the end of the stream.
func (s *stream) closed() (*failure, error) {
	if s.ended {
		return nil, nil
	}
	said, err := s.reader.End()
	if err != nil {
		return s.breaks(err)
	}
	if s.webhook {
		return s.collect(nil, said)
	}
	return s.finish(said)
}

// finish sends how a stream ends whose provider left that out.
func (s *stream) finish(said []dialect.Event) (*failure, error) {
	var rest []byte
	if s.wire != nil {
		if err := s.wire.finish(func(ev events.Event) { rest = s.write(rest, &ev) }); err != nil {
			return s.unfit(err)
		}
	}
	if s.writer == nil {
		s.writer = s.codec.NewWriter(dialect.WriterOptions{})
	}
	var err error
	if s.buf, err = s.encode(append(s.buf[:0], rest...), nil, said); err != nil {
		return s.unfit(err)
	}
	return s.forward(said)
}

// breaks takes what ended the stream before the answer was complete.
func (s *stream) breaks(err error) (*failure, error) {
	if s.ended { // the answer is whole: how the connection ends does not matter
		return nil, nil
	}
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	var e *dialect.Error
	if errors.As(err, &e) {
		if !s.content {
			return s.says(e, nil, nil)
		}
		return nil, s.tell(&failure{err: e, says: e})
	}
	var f *fault.Fault
	if !errors.As(err, &f) {
		f = fault.Wrap(fault.UpstreamFailed, fmt.Errorf("%w: %w", errBroken, err), "the provider's answer broke off")
	}
	if !s.content {
		return &failure{err: f}, nil
	}
	return nil, s.tell(&failure{err: f})
}

// tell ends the client's stream with an error. It is in the middle of an answer, which it
// must not take for a whole one.
func (s *stream) tell(f *failure) error {
	s.broken = true
	s.provider.Health.fail(f, time.Now())
	return s.out.fail(s.query, f)
}
