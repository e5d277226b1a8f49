package config

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// A place is a line and column, both from 1.
type place struct{ line, column int }

// A scalar is where the parser found a string.
type scalar struct {
	line, column int // of its first character: an anchor, a tag, a quote, | or >
	style        yaml.Style
	value        string
}

// places returns where each character of the scalar's value stands in the
// source, and the place behind the last one, where a closing quote stands, or nil when the two can't be brought
// together. Line breaks that YAML folds into a space stand where their line
// ends.
//
// It reads the source again, since the parser keeps the position of a scalar's
// beginning only, and is led by the value: so it can't come to another value.
func (s *source) places(sc scalar) []place {
	if sc.column < 1 {
		return nil
	}
	r := &scalarReader{src: s, line: sc.line, column: sc.column, rest: s.from(sc.line, sc.column), value: []rune(sc.value)}
	r.skipProperties()
	var ok bool
	switch {
	case sc.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		ok = r.block()
	case sc.style&yaml.DoubleQuotedStyle != 0:
		ok = r.accept('"') && r.flow('"')
	case sc.style&yaml.SingleQuotedStyle != 0:
		ok = r.accept('\'') && r.flow('\'')
	default:
		ok = r.flow(0)
	}
	if !ok {
		return nil
	}
	if quote := sc.style & (yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle); quote != 0 {
		r.column-- // back to the quote
	}
	return append(r.out, place{r.line, r.column})
}

// A scalarReader walks through a scalar's source and value at once.
type scalarReader struct {
	src    *source
	line   int
	column int    // from 1
	rest   string // of the line, from column
	value  []rune // what is still to be found
	out    []place
}

// peek returns the character at the place, or 0 at the end of the line.
func (r *scalarReader) peek() rune {
	if r.rest == "" {
		return 0
	}
	c, _ := utf8.DecodeRuneInString(r.rest)
	return c
}

// atEnd reports whether the line is at its end.
func (r *scalarReader) atEnd() bool { return r.rest == "" }

// lineEnd returns the place behind the last character of the line.
func (r *scalarReader) lineEnd() place {
	return place{r.line, r.column + utf8.RuneCountInString(r.rest)}
}

// skip steps over n characters, as far as there are.
func (r *scalarReader) skip(n int) {
	for ; n > 0 && r.rest != ""; n-- {
		_, size := utf8.DecodeRuneInString(r.rest)
		r.rest = r.rest[size:]
		r.column++
	}
}

// nextLine goes to the next line. It reports false after the last.
func (r *scalarReader) nextLine() bool {
	if r.line >= len(r.src.starts) {
		return false
	}
	r.line++
	r.rest, r.column = r.src.line(r.line), 1
	return true
}

// accept steps over c.
func (r *scalarReader) accept(c rune) bool {
	if r.peek() != c {
		return false
	}
	r.skip(1)
	return true
}

// emit notes that the next character of the value, which must be c, is here.
func (r *scalarReader) emit(c rune) bool {
	if len(r.value) == 0 || r.value[0] != c {
		return false
	}
	r.out = append(r.out, place{r.line, r.column})
	r.value = r.value[1:]
	return true
}

// skipSpace steps over spaces and tabs.
func (r *scalarReader) skipSpace() {
	trimmed := strings.TrimLeft(r.rest, " \t")
	r.column += len(r.rest) - len(trimmed)
	r.rest = trimmed
}

// skipProperties steps over an anchor and a tag, and the space around them.
func (r *scalarReader) skipProperties() {
	for {
		r.skipSpace()
		switch c := r.peek(); {
		case c == '&' || c == '!':
			for c := r.peek(); c != 0 && c != ' ' && c != '\t'; c = r.peek() {
				r.skip(1)
			}
		case r.atEnd() || c == '#':
			if !r.nextLine() {
				return
			}
		default:
			return
		}
	}
}

// flow reads a quoted scalar from behind its first quote, or a plain one.
func (r *scalarReader) flow(quote rune) bool {
	for len(r.value) > 0 {
		switch c := r.peek(); {
		case r.atEnd() || (c == ' ' || c == '\t') && r.blankToEnd():
			if !r.foldedBreak() {
				return false
			}
		case quote == '"' && c == '\\':
			if !r.escape() {
				return false
			}
		case quote == '\'' && c == '\'':
			if !r.emit('\'') {
				return false
			}
			r.skip(2)
		default:
			if !r.emit(c) {
				return false
			}
			r.skip(1)
		}
	}
	if quote == '"' { // an escaped line break at the end stands for nothing
		for r.rest == `\` && r.nextLine() {
			r.skipSpace()
		}
	}
	return quote == 0 || r.accept(quote)
}

// blankToEnd reports whether there is nothing but white space left in the line.
func (r *scalarReader) blankToEnd() bool {
	return strings.TrimLeft(r.rest, " \t") == ""
}

// foldedBreak reads a line break and empty lines after it: a space in the value,
// or one line break less.
func (r *scalarReader) foldedBreak() bool {
	at, breaks := place{r.line, r.column}, 0
	for {
		if !r.nextLine() {
			return false
		}
		breaks++
		r.skipSpace()
		if !r.atEnd() {
			break
		}
	}
	return r.breaks(at, breaks)
}

// breaks emits what the value has for a number of line breaks at a place: a space,
// or line breaks. Nothing is right as well, within double quotes.
func (r *scalarReader) breaks(at place, n int) bool {
	if n == 1 && len(r.value) > 0 && r.value[0] == ' ' {
		r.out, r.value = append(r.out, at), r.value[1:]
		return true
	}
	for ; n > 0 && len(r.value) > 0 && r.value[0] == '\n'; n-- {
		r.out, r.value = append(r.out, at), r.value[1:]
	}
	return n <= 1
}

// escape reads an escape sequence of a double-quoted scalar.
func (r *scalarReader) escape() bool {
	if r.rest == `\` { // an escaped line break, and the space before the next line's text
		for {
			if !r.nextLine() {
				return false
			}
			r.skipSpace()
			if !r.atEnd() {
				return true
			}
			if len(r.value) > 0 && r.value[0] == '\n' && !r.emit('\n') {
				return false
			}
		}
	}
	width := 2
	switch r.rest[1] {
	case 'x':
		width = 4
	case 'u':
		width = 6
	case 'U':
		width = 10
	}
	if !r.emit(r.value[0]) {
		return false
	}
	r.skip(width)
	return true
}

// block reads a literal or folded scalar from its | or >.
func (r *scalarReader) block() bool {
	if !r.accept('|') && !r.accept('>') {
		return false
	}
	if strings.Trim(string(r.value), "\n") == "" {
		return r.trailing(r.lineEnd(), len(r.value))
	}
	indent := -1
	first := true
	for len(r.value) > 0 {
		at, breaks := r.lineEnd(), 0
		for {
			if !r.nextLine() { // breaks that are kept at the end of the file
				return r.trailing(at, breaks)
			}
			breaks++
			if strings.TrimLeft(r.rest, " ") != "" || indent >= 0 && len(r.rest) > indent {
				break
			}
		}
		if first {
			breaks--
			indent = r.indentation(breaks)
		}
		first = false
		if indent < 0 || !r.indented(indent) { // what follows the scalar
			return r.trailing(at, breaks)
		}
		if breaks > 0 && !r.breaks(at, breaks) {
			return false
		}
		for r.skip(indent); !r.atEnd(); r.skip(1) {
			if !r.emit(r.peek()) {
				return false
			}
		}
	}
	return true
}

// trailing emits the line breaks that the value ends with.
func (r *scalarReader) trailing(at place, breaks int) bool {
	for range breaks + 1 {
		if len(r.value) > 0 && r.value[0] == '\n' {
			r.out, r.value = append(r.out, at), r.value[1:]
		}
	}
	return len(r.value) == 0
}

// indentation returns by how much the lines of a block are indented, told by its
// first line that is not blank, which follows a number of blank ones.
func (r *scalarReader) indentation(blank int) int {
	raw := len(r.rest) - len(strings.TrimLeft(r.rest, " "))
	rest := strings.TrimLeft(string(r.value), "\n")
	return raw - (len(rest) - len(strings.TrimLeft(rest, " ")))
}

// indented reports whether the line is indented by n spaces at least.
func (r *scalarReader) indented(n int) bool {
	return len(r.rest) >= n && strings.Trim(r.rest[:n], " ") == ""
}
