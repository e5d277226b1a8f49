package config

import (
	"strings"
	"unicode/utf8"
)

// Sources hold the text of the files that resources were read from, so that
// [Render] can show excerpts, and know which parts of it are secrets. They are
// safe for concurrent use once built. A nil *Sources holds no files.
type Sources struct {
	files map[string]*source
}

// file returns the file of that name, or nil.
func (s *Sources) file(name string) *source {
	if s == nil {
		return nil
	}
	return s.files[name]
}

// A source is the text of one file.
type source struct {
	name   string
	text   string // UTF-8, without a byte order mark
	starts []int  // where each line begins
	widths []int  // how many characters each line has
	masks  map[int][]span
	// unparsed are documents that are not YAML, in which secrets have to be
	// guessed: from the first line to the one after the last.
	unparsed []span
}

// A span is part of a line, in characters from 0, or a range of lines from 1. It
// ends before to.
type span struct{ from, to int }

// newSource returns text as a source. It must be UTF-8.
func newSource(name, text string) *source {
	s := &source{name: name, text: text, starts: []int{0}, masks: map[int][]span{}}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == '\r' && i+1 < len(text) && text[i+1] == '\n' {
			size = 2
		}
		i += size
		if isBreak(r) {
			s.starts = append(s.starts, i)
		}
	}
	s.widths = make([]int, len(s.starts))
	for n := range s.widths {
		s.widths[n] = utf8.RuneCountInString(s.line(n + 1))
	}
	return s
}

// isBreak reports whether r ends a line. The set is that of YAML 1.1, as it is
// the parser's: so both count the same lines.
func isBreak(r rune) bool {
	switch r {
	case '\n', '\r', '\u0085', '\u2028', '\u2029':
		return true
	}
	return false
}

// line returns the line of number n, from 1, without its line break, or "" when
// there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.starts) {
		return ""
	}
	end := len(s.text)
	if n < len(s.starts) {
		end = s.starts[n]
	}
	return strings.TrimRightFunc(s.text[s.starts[n-1]:end], isBreak)
}

// from returns what is in a line from a column on, "" behind its end. It takes long
// for a long line only if that has characters beyond ASCII.
func (s *source) from(n, column int) string {
	line := s.line(n)
	if column-1 >= len(line) {
		return ""
	}
	if s.widths[n-1] == len(line) {
		return line[column-1:]
	}
	for ; column > 1 && line != ""; column-- {
		_, size := utf8.DecodeRuneInString(line)
		line = line[size:]
	}
	return line
}

// position returns a place in the file that is surely within it.
func (s *source) position(line, column, length int) Position {
	line = min(max(line, 1), len(s.starts))
	width := s.widths[line-1]
	column = min(max(column, 1), width+1)
	return Position{File: s.name, Line: line, Column: column, Length: min(max(length, 0), width+1-column)}
}

// rest returns the position from the first character that is no space at or
// after column to the end of what is written in the line.
func (s *source) rest(line, column int) Position {
	p := s.position(line, column, 0)
	text := s.from(p.Line, p.Column)
	trimmed := strings.TrimLeft(text, " \t")
	length := utf8.RuneCountInString(strings.TrimRight(trimmed, " \t"))
	return s.position(p.Line, p.Column+len(text)-len(trimmed), max(1, length))
}

// mask notes that the characters from first to the one before last, in lines and
// columns from 1, are a secret.
func (s *source) mask(first, last place) {
	for n := first.line; n <= min(last.line, len(s.starts)); n++ {
		line := s.line(n)
		from, to := len(line)-len(strings.TrimLeft(line, " \t")), s.widths[n-1]
		if n == first.line {
			from = first.column - 1
		}
		if n == last.line {
			to = min(to, last.column-1)
		}
		if from < to {
			s.masks[n] = append(s.masks[n], span{from, to})
		}
	}
}
