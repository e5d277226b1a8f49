package guard

import (
	"slices"
	"unicode/utf8"
)

// A Stream masks one text that comes in pieces. However it is cut, the pieces that it gives
// out make what [Regex.Mask] makes of the whole; only what could be a match for more than
// [MaxHeld] bytes is masked without waiting for its end. It is not safe for concurrent use.
type Stream struct {
	regex  *Regex
	stages []*stage
	cut    []byte // the beginning of a rune
	in     []byte
}

// NewStream returns a Stream for one text. A nil Regex has none.
func (x *Regex) NewStream() *Stream {
	s := &Stream{regex: x}
	for _, r := range x.recognizers {
		s.stages = append(s.stages, newStage(r))
	}
	return s
}

// Write takes the next piece of the text and returns what can be given out. rejected says
// that the Regex rejects the text: nothing is to be given out any more.
func (s *Stream) Write(text string) (out string, rejected bool) {
	s.in = append(append(s.in[:0], s.cut...), text...)
	whole := wholeRunes(s.in)
	s.cut = append(s.cut[:0], s.in[whole:]...)
	return s.run(s.in[:whole], false, text)
}

// Close takes the end of the text and returns what was held.
func (s *Stream) Close() (out string, rejected bool) {
	s.in = append(s.in[:0], s.cut...)
	s.cut = s.cut[:0]
	return s.run(s.in, true, "")
}

// Found reports whether something was masked.
func (s *Stream) Found() bool {
	for _, g := range s.stages {
		if g.found {
			return true
		}
	}
	return false
}

// Held reports whether something is held.
func (s *Stream) Held() bool {
	for _, g := range s.stages {
		if len(g.buf) > 0 {
			return true
		}
	}
	return len(s.cut) > 0
}

func (s *Stream) run(piece []byte, final bool, same string) (string, bool) {
	for _, g := range s.stages {
		piece = g.write(piece, final)
		if g.found && s.regex.action == Reject {
			return "", true
		}
	}
	if string(piece) == same {
		return same, false
	}
	return string(piece), false
}

// wholeRunes returns the length of b without a rune at its end that is cut.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// A finder finds matches in a text that comes in pieces.
type finder interface {
	advance(spans []span, buf []byte, base int, final bool) []span
	settled() int
	restart(pos int, prev rune)
	loosen(buf []byte, base int, prev rune)
	swallow(r rune, width int)
	quiet() bool
}

// A stage is a recogniser in a [Stream].
type stage struct {
	r       *recognizer
	finders []finder
	tokens  *machine
	found   bool // something was masked

	buf    []byte // what is held
	base   int    // its offset
	before rune   // that stood before it
	spans  []span // that were found in it
	masked []span // tokens in it
	merged []span
	out    []byte
	// swallowing says that what was held became too long: it was masked, and so is what
	// belongs to it.
	swallowing bool
}

func newStage(r *recognizer) *stage {
	g := &stage{r: r, tokens: newMachine(r.tokens), before: -1}
	for _, p := range r.patterns {
		g.finders = append(g.finders, newMachine(p))
	}
	if r.phones {
		g.finders = append(g.finders, newPhoneFinder())
	}
	return g
}

// write takes a piece, whole runes, and returns what can be given out, valid until the next
// call.
func (g *stage) write(piece []byte, final bool) []byte {
	g.out = g.out[:0]
	if g.swallowing {
		if piece = g.swallow(piece); g.swallowing {
			return g.out
		}
	}
	g.buf = append(g.buf, piece...)
	end := g.base + len(g.buf)
	settled := end
	for _, f := range g.finders {
		g.spans = f.advance(g.spans, g.buf, g.base, final)
		settled = min(settled, f.settled())
	}
	g.masked = g.tokens.advance(g.masked, g.buf, g.base, final)
	if settled = min(settled, g.tokens.settled()); final {
		settled = end
	}
	g.give(settled)
	if end-g.base > MaxHeld {
		g.overflow()
	}
	return g.out
}

// give gives out what is before settled, but for a match that may still grow.
func (g *stage) give(settled int) {
	at := g.base
	if len(g.spans) > 0 {
		g.merged = merge(outside(append(g.merged[:0], g.spans...), g.masked))
		for _, s := range g.merged {
			if s.end > settled {
				settled = min(settled, s.start)
				break
			}
			g.out = append(g.out, g.buf[at-g.base:s.start-g.base]...)
			g.out = append(g.out, g.r.token...)
			g.found = true
			at = s.end
		}
	}
	if at < settled {
		g.out = append(g.out, g.buf[at-g.base:settled-g.base]...)
		at = settled
	}
	if at == g.base {
		return
	}
	g.before, _ = utf8.DecodeLastRune(g.buf[:at-g.base])
	g.buf = append(g.buf[:0], g.buf[at-g.base:]...)
	g.base = at
	passed := func(s span) bool { return s.end <= at }
	g.spans = slices.DeleteFunc(g.spans, passed)
	g.masked = slices.DeleteFunc(g.masked, passed)
}

// overflow masks all that is held, and what comes until nothing of it can be a match any
// more.
func (g *stage) overflow() {
	g.out = append(g.out, g.r.token...)
	g.found = true
	for _, f := range g.finders {
		f.loosen(g.buf, g.base, g.before)
	}
	last, _ := utf8.DecodeLastRune(g.buf)
	g.base += len(g.buf)
	g.buf, g.spans, g.masked = g.buf[:0], g.spans[:0], g.masked[:0]
	g.swallowing = true
	g.resume(last)
}

// swallow masks on, and returns what is left of a piece.
func (g *stage) swallow(piece []byte) []byte {
	for len(piece) > 0 && g.swallowing {
		r, width := utf8.DecodeRune(piece)
		for _, f := range g.finders {
			f.swallow(r, width)
		}
		piece = piece[width:]
		g.base += width
		g.resume(r)
	}
	return piece
}

// resume ends the swallowing when nothing that was swallowed can be a match any more.
func (g *stage) resume(last rune) {
	for _, f := range g.finders {
		if !f.quiet() {
			return
		}
	}
	g.swallowing, g.before = false, last
	for _, f := range g.finders {
		f.restart(g.base, last)
	}
	g.tokens.restart(g.base, last)
}
