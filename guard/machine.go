package guard

import (
	"regexp/syntax"
	"unicode/utf8"
)

// A machine finds the matches of a pattern in a text that comes in pieces: those that
// FindAll finds in the whole, but for empty ones. It is a simulation of the pattern's
// automaton, with all the ways that a match could still go (Thompson, Pike), and knows
// where the earliest of them began.
//
// Offsets are those of the whole text. The piece that it reads has to begin at or before
// settled.
type machine struct {
	p       *pattern
	pos     int  // what comes next
	prev    rune // before it, -1 at the beginning
	threads []thread
	next    []thread
	found   bool // match is one, unless a thread makes a better one of it
	match   span
	loose   bool // everything that could be a match counts, see loosen

	seen       []uint32 // by instruction: the generation in which it was followed
	generation uint32
}

// A thread is a way in which a match that began at start could go on.
type thread struct {
	pc    uint32
	start int
}

func newMachine(p *pattern) *machine {
	return &machine{p: p, prev: -1, seen: make([]uint32, len(p.prog.Inst))}
}

// settled returns the offset before which no match begins that has not been found.
func (m *machine) settled() int {
	at := m.pos
	if m.found {
		at = m.match.start
	}
	for _, t := range m.threads {
		at = min(at, t.start)
	}
	return at
}

// advance reads on in the text, of which buf is what begins at base, and appends what it
// finds to spans. final says that the text ends with buf.
func (m *machine) advance(spans []span, buf []byte, base int, final bool) []span {
	for {
		if len(m.threads) == 0 && !m.found {
			m.skip(buf, base)
		}
		i := m.pos - base
		if i == len(buf) && (!final || len(m.threads) == 0 && !m.found) {
			return spans // a match of nothing is none
		}
		r, width := rune(-1), 0
		if i < len(buf) {
			r, width = utf8.DecodeRune(buf[i:])
		}
		m.step(r)
		m.pos += width
		if r >= 0 {
			m.prev = r
		}
		if len(m.threads) > 0 || !m.found {
			continue
		}
		s := m.match
		if m.found = false; s.start < s.end {
			spans = append(spans, s)
			m.pos = s.end
		} else if s.end-base < len(buf) {
			_, width = utf8.DecodeRune(buf[s.end-base:])
			m.pos = s.end + width
		} else {
			return spans
		}
		m.prev, _ = utf8.DecodeLastRune(buf[:m.pos-base])
	}
}

// skip goes over what no match begins with.
func (m *machine) skip(buf []byte, base int) {
	i := m.pos - base
	for i < len(buf) {
		if c := buf[i]; c < utf8.RuneSelf {
			if m.p.first.ascii[c] {
				break
			}
			m.prev = rune(c)
			i++
			continue
		}
		if m.p.first.other {
			break
		}
		r, width := utf8.DecodeRune(buf[i:])
		m.prev = r
		i += width
	}
	m.pos = base + i
}

// step takes the rune at pos, -1 at the end of the text.
func (m *machine) step(r rune) {
	conditions := syntax.EmptyOpContext(m.prev, r)
	m.generation++
	m.next = m.next[:0]
	decided := false
	for _, t := range m.threads {
		if decided = m.follow(t.pc, t.start, r, conditions); decided {
			break
		}
	}
	if !decided && !m.found {
		m.follow(uint32(m.p.prog.Start), m.pos, r, conditions)
	}
	m.threads, m.next = m.next, m.threads
}

// follow goes from an instruction to all that take r, in the order of preference. It
// returns true at a match: what is preferred less does not count then.
func (m *machine) follow(pc uint32, start int, r rune, conditions syntax.EmptyOp) bool {
	if m.seen[pc] == m.generation {
		return false
	}
	m.seen[pc] = m.generation
	inst := &m.p.prog.Inst[pc]
	switch inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return m.follow(inst.Out, start, r, conditions) || m.follow(inst.Arg, start, r, conditions)
	case syntax.InstCapture, syntax.InstNop:
		return m.follow(inst.Out, start, r, conditions)
	case syntax.InstEmptyWidth:
		return syntax.EmptyOp(inst.Arg)&^conditions == 0 && m.follow(inst.Out, start, r, conditions)
	case syntax.InstMatch:
		if m.loose {
			return false
		}
		m.found, m.match = true, span{start, m.pos}
		return true
	case syntax.InstFail:
		return false
	default:
		if r >= 0 && takes(inst, r) {
			m.next = append(m.next, thread{inst.Out, start})
		}
		return false
	}
}

func takes(inst *syntax.Inst, r rune) bool {
	switch inst.Op {
	case syntax.InstRuneAny:
		return true
	case syntax.InstRuneAnyNotNL:
		return r != '\n'
	default:
		return inst.MatchRune(r)
	}
}

// restart begins anew at an offset.
func (m *machine) restart(pos int, prev rune) {
	m.pos, m.prev, m.threads, m.found, m.loose = pos, prev, m.threads[:0], false, false
}

// loosen has the machine follow every way from base on that could lead to a match,
// preferred or not: text is not there to come back to.
func (m *machine) loosen(buf []byte, base int, prev rune) {
	m.restart(base, prev)
	m.loose = true
	for len(buf) > 0 {
		r, width := utf8.DecodeRune(buf)
		m.swallow(r, width)
		buf = buf[width:]
	}
}

// swallow takes a rune of a loose machine.
func (m *machine) swallow(r rune, width int) {
	m.step(r)
	m.pos += width
	m.prev = r
}

// quiet reports whether nothing that a loose machine has read can become a part of a match
// that goes on.
func (m *machine) quiet() bool { return len(m.threads) == 0 }

// firstBytes says what a match can begin with.
type firstBytes struct {
	ascii [utf8.RuneSelf]bool
	other bool // something that is not ASCII
}

// firstOf returns what matches of a program can begin with, whatever their conditions.
func firstOf(prog *syntax.Prog) (first firstBytes) {
	seen := make([]bool, len(prog.Inst))
	var follow func(pc uint32)
	follow = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		inst := &prog.Inst[pc]
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			follow(inst.Out)
			follow(inst.Arg)
		case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
			follow(inst.Out)
		case syntax.InstMatch, syntax.InstFail:
		default:
			for c := range rune(utf8.RuneSelf) {
				first.ascii[c] = first.ascii[c] || takes(inst, c)
			}
			first.other = first.other || takesOther(inst)
		}
	}
	follow(uint32(prog.Start))
	return first
}

// takesOther reports whether an instruction may take what is not ASCII.
func takesOther(inst *syntax.Inst) bool {
	if inst.Op == syntax.InstRuneAny || inst.Op == syntax.InstRuneAnyNotNL || syntax.Flags(inst.Arg)&syntax.FoldCase != 0 {
		return true
	}
	for _, r := range inst.Rune {
		if r >= utf8.RuneSelf {
			return true
		}
	}
	return false
}
