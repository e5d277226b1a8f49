// Package jsonpath finds the strings of a JSON document that stand in certain places, and
// replaces them. Every other byte of the document stays.
//
// Documents have to be valid JSON: they were checked before.
package jsonpath

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Paths say which strings of a document are meant. They are immutable.
type Paths struct {
	patterns [][]segment
}

// A segment is one step of a pattern.
type segment struct {
	name string // of a member; "" is elements, or all when deep
	deep bool   // all strings below, names of members too
	key  string // a member that the object has to have, as the string is
	is   string
}

// Compile returns the paths of patterns. A pattern is names of members between dots, such as
// messages[*].content. [*] stands for all elements of an array, or for the value itself where it is
// none, .** for all strings below, the names of members too, and {type=text} behind a name for the
// objects that say so.
func Compile(patterns ...string) Paths {
	var p Paths
	for _, pattern := range patterns {
		var segments []segment
		for part := range strings.SplitSeq(pattern, ".") {
			if part == "**" {
				segments = append(segments, segment{deep: true})
				continue
			}
			part, condition, _ := strings.Cut(part, "{")
			name, stars := part, 0
			for strings.HasSuffix(name, "[*]") {
				name = strings.TrimSuffix(name, "[*]")
				stars++
			}
			if name != "" {
				segments = append(segments, segment{name: name})
			}
			for range stars {
				segments = append(segments, segment{})
			}
			if condition != "" {
				s := &segments[len(segments)-1]
				s.key, s.is, _ = strings.Cut(strings.TrimSuffix(condition, "}"), "=")
			}
		}
		p.patterns = append(p.patterns, segments)
	}
	return p
}

// A Place is where a string stands in a document.
type Place struct {
	Pattern    int // the number of the pattern that chose it
	Start, End int // its quotes included
	// Indexes are the elements of arrays that lead to it, one a [*].
	Indexes []int
}

// Text returns the string.
func (p *Place) Text(doc []byte) string {
	v := doc[p.Start:p.End]
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return string(b) // it was checked: what is in b is what a lenient reader makes of it
	}
	return string(b)
}

// Find returns the places of the strings in a document that the paths choose, in its order.
func (p Paths) Find(doc []byte) []Place {
	w := walker{paths: p, doc: doc}
	var states []state
	for i := range p.patterns {
		states = append(states, state{i, 0})
	}
	w.value(skip(doc, 0), states)
	return w.found
}

// FindValues returns the places of the values of any kind that the paths choose, in the order of the
// document.
func (p Paths) FindValues(doc []byte) []Place {
	w := walker{paths: p, doc: doc, values: true}
	var states []state
	for i := range p.patterns {
		states = append(states, state{i, 0})
	}
	w.value(skip(doc, 0), states)
	return w.found
}

// Splice returns the document with another value in some places, which are in its order.
func Splice(doc []byte, places []Place, value string) []byte {
	out := make([]byte, 0, len(doc))
	at := 0
	for _, p := range places {
		out = append(append(out, doc[at:p.Start]...), value...)
		at = p.End
	}
	return append(out, doc[at:]...)
}

// Replace returns the document with other strings in some places, which are in its order.
func Replace(doc []byte, places []Place, texts []string) []byte {
	out := make([]byte, 0, len(doc)+64)
	at := 0
	for i, p := range places {
		out = append(out, doc[at:p.Start]...)
		out, _ = jsontext.AppendQuote(out, texts[i]) // what is not UTF-8 is replaced
		at = p.End
	}
	return append(out, doc[at:]...)
}

// A state is a pattern and how far it was followed.
type state struct{ pattern, at int }

// A walker goes through one document.
type walker struct {
	paths   Paths
	doc     []byte
	values  bool // of any kind, not strings alone
	indexes []int
	found   []Place
}

// value goes through the value at i and returns the offset behind it.
func (w *walker) value(i int, states []state) int {
	if w.values {
		for _, s := range states {
			if s.at == len(w.paths.patterns[s.pattern]) {
				end := w.value(i, nil)
				w.note(s.pattern, i, end)
				return end
			}
		}
	}
	switch w.doc[i] {
	case '{':
		return w.object(i, states)
	case '[':
		return w.array(i, states)
	case '"':
		end := endOfString(w.doc, i)
		for _, s := range states {
			if w.ends(s) {
				w.note(s.pattern, i, end)
				break
			}
		}
		return end
	default:
		for i < len(w.doc) && strings.IndexByte(",]} \t\r\n", w.doc[i]) < 0 {
			i++
		}
		return i
	}
}

// ends reports whether a pattern chooses a string that stands where it is.
func (w *walker) ends(s state) bool {
	p := w.paths.patterns[s.pattern]
	for s.at < len(p) && (p[s.at].deep || p[s.at].name == "" && p[s.at].key == "") {
		s.at++
	}
	return s.at == len(p)
}

func (w *walker) note(pattern, start, end int) {
	w.found = append(w.found, Place{pattern, start, end, append([]int(nil), w.indexes...)})
}

func (w *walker) object(i int, states []state) int {
	states = w.entered(i, states)
	for i = skip(w.doc, i+1); w.doc[i] != '}'; {
		end := endOfString(w.doc, i)
		var inner []state
		if len(states) > 0 {
			inner = w.inside(i, end, states)
		}
		i = w.value(skip(w.doc, end), inner)
		i = skip(w.doc, i)
	}
	return i + 1
}

// entered returns the states at an object: it is its own element where no array stands, and has to
// be what a condition says.
func (w *walker) entered(i int, states []state) []state {
	var out []state
	for _, s := range states {
		p := w.paths.patterns[s.pattern]
		for s.at < len(p) && p[s.at].name == "" && !p[s.at].deep {
			s.at++
		}
		if s.at > 0 && p[s.at-1].key != "" && !w.says(i, p[s.at-1].key, p[s.at-1].is) {
			continue
		}
		if s.at < len(p) {
			out = append(out, s)
		}
	}
	return out
}

// says reports whether the object at i has a member of that name that is that string.
func (w *walker) says(i int, key, is string) bool {
	for i = skip(w.doc, i+1); w.doc[i] != '}'; {
		end := endOfString(w.doc, i)
		at := skip(w.doc, end)
		name := string(w.doc[i+1 : end-1])
		behind := w.value(at, nil)
		if name == key {
			return string(w.doc[at:behind]) == `"`+is+`"`
		}
		i = skip(w.doc, behind)
	}
	return false
}

// inside returns the states at the value of a member, whose name stands from i to end.
func (w *walker) inside(i, end int, states []state) []state {
	var out []state
	name, noted := "", false
	for _, s := range states {
		seg := w.paths.patterns[s.pattern][s.at]
		if seg.deep {
			if !noted {
				w.note(s.pattern, i, end)
				noted = true
			}
			out = append(out, s)
			continue
		}
		if name == "" {
			p := Place{Start: i, End: end}
			name = p.Text(w.doc)
		}
		if seg.name == name {
			out = append(out, state{s.pattern, s.at + 1})
		}
	}
	return out
}

func (w *walker) array(i int, states []state) int {
	var inner []state
	for _, s := range states {
		p := w.paths.patterns[s.pattern]
		switch {
		case s.at < len(p) && p[s.at].deep:
			inner = append(inner, s)
		case s.at < len(p) && p[s.at].name == "":
			inner = append(inner, state{s.pattern, s.at + 1})
		}
	}
	w.indexes = append(w.indexes, 0)
	for i = skip(w.doc, i+1); w.doc[i] != ']'; {
		i = skip(w.doc, w.value(i, inner))
		w.indexes[len(w.indexes)-1]++
	}
	w.indexes = w.indexes[:len(w.indexes)-1]
	return i + 1
}

// endOfString returns the offset behind the string at i.
func endOfString(doc []byte, i int) int {
	for i++; doc[i] != '"'; i++ {
		if doc[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skip returns the offset of the next thing at or after i that is neither space, comma nor colon.
func skip(doc []byte, i int) int {
	for i < len(doc) && strings.IndexByte(" \t\r\n,:", doc[i]) >= 0 {
		i++
	}
	return i
}
