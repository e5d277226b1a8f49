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
	ended   bool // the answer is complete
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
	wire := s.framing().read(resp.Body)
	for {
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
		s.buf = s.encode(s.buf[:0], &ev, said)
		if f, err := s.forward(said); f != nil || err != nil {
			return f, err
		}
		if s.content {
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

// encode appends what the client reads of an event.
func (s *stream) encode(dst []byte, ev *events.Event, said []dialect.Event) []byte {
	if s.writer == nil {
		if s.hide && len(said) == 1 && said[0].Kind == dialect.UsageKnown {
			return dst
		}
		if s.out.array {
			return gemini.AppendElement(dst, ev.Data)
		}
		return events.Append(dst, *ev)
	}
	for i := range said {
		dst = s.writer.Write(dst, &said[i])
	}
	return dst
}

// forward sends what was encoded, or holds it back while there is no content.
func (s *stream) forward(said []dialect.Event) (*failure, error) {
	for i := range said {
		s.keep(&said[i])
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
		s.attempt.content = time.Now()
		s.rec.LLM.FirstContent = s.attempt.content.Sub(s.rec.Start)
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
	if s.writer == nil { // the provider left out how its dialect ends
		s.writer = s.codec.NewWriter(dialect.WriterOptions{})
	}
	s.buf = s.encode(s.buf[:0], nil, said)
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
