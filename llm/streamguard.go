package llm

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// checked sets up the guard of a stream.
func (s *stream) checked() {
	g := s.answerGuard()
	if g == nil {
		return
	}
	s.webhook = g.Webhook != nil
	switch {
	case g.Regex == nil:
	case s.same:
		s.wire = s.newWireGuard(g)
	default:
		s.guarded = s.newEventGuard(g)
	}
}

// silent reports whether a guard has held all of the answer until now, so that it can still be rejected as a
// whole.
func (s *stream) silent() bool {
	switch {
	case s.ended:
		return false
	case s.writer != nil:
		return s.guarded != nil && !s.guarded.gave
	default:
		return s.wire != nil && !s.wire.gave
	}
}

// unfit takes the error of a guard: a rejection ends the answer, and what can't be read is a
// provider's failure.
func (s *stream) unfit(err error) (*failure, error) {
	if rejection(err) == nil {
		return s.breaks(err)
	}
	return nil, s.attempt.unfit(err)
}

// A collected is an event of an answer that is shown to a webhook as a whole.
type collected struct {
	wire *events.Event // nil where the provider left out the end
	said []dialect.Event
}

// collect keeps an event, and sends all of them after the last one. Until then another provider can
// answer.
func (s *stream) collect(ev *events.Event, said []dialect.Event) (*failure, error) {
	one := collected{said: slices.Clone(said)}
	if ev != nil {
		kept := *ev
		kept.Data = bytes.Clone(ev.Data)
		one.wire = &kept
	}
	s.collected = append(s.collected, one)
	last := false
	for i := range said {
		s.begun = s.begun || said[i].IsContent()
		last = last || said[i].Kind == dialect.End
	}
	if !last {
		return nil, nil
	}
	s.webhook = false
	if err := s.shown(); err != nil {
		if rejection(err) == nil {
			return nil, err
		}
		return nil, s.attempt.unfit(err)
	}
	for _, one := range s.collected {
		send := s.take
		if one.wire == nil {
			send = func(_ *events.Event, said []dialect.Event) (*failure, error) { return s.finish(said) }
		}
		if f, err := send(one.wire, one.said); f != nil || err != nil || s.refused != nil {
			return f, err
		}
	}
	return nil, nil
}

// shown shows the answer to the webhook. One that it changes is written anew.
func (s *stream) shown() error {
	g := s.answerGuard()
	var texts []string
	each := func(f func(e *dialect.Event, text int)) {
		open := map[int]int{} // the text of a choice
		n := 0
		for i := range s.collected {
			for j := range s.collected[i].said {
				e := &s.collected[i].said[j]
				text, ok := open[e.Choice]
				switch {
				case e.Kind == dialect.BlockStart && e.Part.Kind == dialect.Text:
					open[e.Choice] = n
					n++
				case e.Kind == dialect.BlockEnd:
					delete(open, e.Choice)
				case ok && (e.Kind == dialect.Delta || e.Kind == dialect.Signed):
					f(e, text)
				}
			}
		}
	}
	var parts [][]string
	each(func(e *dialect.Event, text int) {
		for text >= len(parts) {
			parts = append(parts, nil)
		}
		if e.Kind == dialect.Delta {
			parts[text] = append(parts[text], e.Text)
		}
	})
	for _, p := range parts {
		texts = append(texts, strings.Join(p, ""))
	}
	out, err := s.asks(g, texts)
	if err != nil || slices.Equal(out, texts) {
		return err
	}
	written := make([]bool, len(out))
	each(func(e *dialect.Event, text int) {
		switch {
		case out[text] == texts[text]:
		case e.Kind == dialect.Signed || written[text]:
			e.Text = ""
		default:
			e.Text, written[text] = out[text], true
		}
	})
	for i := range s.collected {
		s.collected[i].said = slices.DeleteFunc(s.collected[i].said, func(e dialect.Event) bool {
			return (e.Kind == dialect.Delta || e.Kind == dialect.Signed) && e.Text == ""
		})
	}
	if s.same {
		s.writer, s.wire = s.codec.NewWriter(s.writerOptions()), nil
		s.query.writer = s.writer
		if g.Regex != nil {
			s.guarded = s.newEventGuard(g)
		}
	}
	return nil
}
