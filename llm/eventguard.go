package llm

import (
	"encoding/base64"
	"encoding/json"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An eventGuard masks an answer that is streamed and translated.
type eventGuard struct {
	a      *attempt
	guard  *guard.Answer
	blocks map[int]*guardedBlock // the open one, by choice
	out    []dialect.Event
	gave   bool // some content
}

// A guardedBlock is a block of a choice.
type guardedBlock struct {
	filter  filter // nil passes all
	changed bool
	whole   bool            // it is signed at its beginning: it is held
	held    []dialect.Event // of a whole one
}

func (a *attempt) newEventGuard(g *guard.Answer) *eventGuard {
	return &eventGuard{a: a, guard: g, blocks: map[int]*guardedBlock{}}
}

// newFilter returns the filter of a text of that kind.
func newFilter(x *guard.Regex, kind textKind) filter {
	if kind == arguments {
		return &argumentFilter{regex: x}
	}
	return textFilter{x.NewStream()}
}

// pass returns the events as they may pass, valid until the next call; its error is the
// rejection.
func (g *eventGuard) pass(said []dialect.Event) ([]dialect.Event, error) {
	g.out = g.out[:0]
	for i := range said {
		if err := g.event(&said[i]); err != nil {
			return nil, err
		}
	}
	return g.out, nil
}

func (g *eventGuard) event(e *dialect.Event) error {
	b := g.blocks[e.Choice]
	switch e.Kind {
	case dialect.BlockStart:
		b = &guardedBlock{whole: e.Part.Signature != ""}
		g.blocks[e.Choice] = b
		switch e.Part.Kind {
		case dialect.Text, dialect.Thinking, dialect.Refusal:
			b.filter = newFilter(g.guard.Regex, spoken)
		case dialect.ToolCall:
			b.filter = newFilter(g.guard.Regex, arguments)
		}
	case dialect.Delta:
		if b == nil || b.filter == nil {
			break
		}
		text, rejected := b.filter.write(e.Text)
		return g.say(b, e, text, rejected)
	case dialect.Signed:
		if b == nil || b.filter == nil {
			break
		}
		if err := g.finish(b, e.Choice); err != nil {
			return err
		}
		if b.changed {
			g.a.lose("signature")
			return nil
		}
	case dialect.Cited:
		cited := *e
		if guardCitation(g.guard.Regex, &cited.Citation) {
			return g.guard.Rejected()
		}
		g.emit(b, &cited)
		return nil
	case dialect.BlockEnd:
		delete(g.blocks, e.Choice)
		if b == nil {
			break
		}
		if err := g.finish(b, e.Choice); err != nil {
			return err
		}
		if b.whole && b.changed && len(b.held) > 0 {
			g.a.unsign(&b.held[0].Part)
		}
		g.out = append(g.out, b.held...)
		g.gave = g.gave || len(b.held) > 0
		b.whole = false
	}
	g.emit(b, e)
	return nil
}

// say passes a part of a text.
func (g *eventGuard) say(b *guardedBlock, e *dialect.Event, text string, rejected bool) error {
	if rejected {
		return g.guard.Rejected()
	}
	if text == "" && e.Text != "" {
		return nil
	}
	said := *e
	if text != said.Text {
		said.Rewrite(text)
	}
	g.emit(b, &said)
	return nil
}

// finish passes what the filter of a block holds.
func (g *eventGuard) finish(b *guardedBlock, choice int) error {
	if b.filter == nil {
		return nil
	}
	text, rejected := b.filter.close()
	b.changed = changedBy(b.filter)
	b.filter = nil
	return g.say(b, &dialect.Event{Kind: dialect.Delta, Choice: choice, Text: "-"}, text, rejected)
}

func (g *eventGuard) emit(b *guardedBlock, e *dialect.Event) {
	if b != nil && b.whole {
		b.held = append(b.held, *e)
		return
	}
	g.out = append(g.out, *e)
	g.gave = g.gave || e.IsContent()
}

// changedBy reports whether a filter has masked something.
func changedBy(f filter) bool {
	switch f := f.(type) {
	case textFilter:
		return f.Found()
	case *argumentFilter:
		return f.found || f.text != nil && f.text.Found()
	default:
		return false
	}
}

func encodeBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// sameJSON reports whether two texts are the same JSON, written in another way.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && equalJSON(x, y)
}

func equalJSON(x, y any) bool {
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && string(a) == string(b)
}
