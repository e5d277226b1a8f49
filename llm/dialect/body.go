package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep a body may be nested.
const maxDepth = 128

// A Body is the JSON object that a client sent, checked once, with the places of
// its members. It is patched, not written anew: every byte that is not changed stays.
type Body struct {
	Raw     []byte
	members []member
	open    int // offset behind the opening brace
}

type member struct {
	name                string
	start, value, limit int // of the name, of the value, behind the value
}

// ParseBody checks that b is one JSON object: without duplicate members, without
// invalid UTF-8, not nested too deeply, and without a member that only a lenient
// reader takes for one of known. Its errors can be shown to the client.
func ParseBody(b []byte, known ...string) (*Body, error) {
	body := &Body{Raw: b}
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, syntax(err)
	}
	if tok.Kind() != '{' {
		return nil, errors.New("the body is not a JSON object")
	}
	body.open = int(dec.InputOffset())
	for dec.PeekKind() != '}' {
		m := member{start: skip(b, int(dec.InputOffset()))}
		name, err := dec.ReadToken()
		if err != nil {
			return nil, syntax(err)
		}
		m.name = name.String()
		for _, k := range known {
			if m.name != k && strings.EqualFold(strings.Trim(m.name, " \x00"), k) {
				return nil, fmt.Errorf("the member %q looks like %q: write it so, or leave it out", m.name, k)
			}
		}
		dec.PeekKind() // reads up to the value
		m.value = skip(b, int(dec.InputOffset()))
		if err := value(dec); err != nil {
			return nil, err
		}
		m.limit = int(dec.InputOffset())
		body.members = append(body.members, m)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntax(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, errors.New("the body goes on after the JSON object")
	}
	return body, nil
}

// value reads one value, however large, and bounds its depth.
func value(dec *jsontext.Decoder) error {
	base := dec.StackDepth()
	for {
		if _, err := dec.ReadToken(); err != nil {
			return syntax(err)
		}
		switch d := dec.StackDepth(); {
		case d == base:
			return nil
		case d > maxDepth:
			return fmt.Errorf("the body is nested deeper than %d", maxDepth)
		}
	}
}

// skip returns the offset of the next thing in b at or after i that is neither space,
// comma nor colon.
func skip(b []byte, i int) int {
	for i < len(b) && strings.IndexByte(" \t\r\n,:", b[i]) >= 0 {
		i++
	}
	return i
}

// syntax returns err as the client may read it.
func syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the body is not JSON: it ends too early")
	}
	return fmt.Errorf("the body is not JSON as RFC 8259 has it: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
}

// Get returns the value of a member, nil when there is none.
func (b *Body) Get(name string) jsontext.Value {
	for _, m := range b.members {
		if m.name == name {
			return jsontext.Value(b.Raw[m.value:m.limit])
		}
	}
	return nil
}

// String returns the value of a member that is a string, "" otherwise.
func (b *Body) String(name string) string {
	v := b.Get(name)
	if v.Kind() != '"' {
		return ""
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return "" // it was checked: it is a string
	}
	return s
}

// True reports whether a member is true.
func (b *Body) True(name string) bool { return b.Get(name).Kind() == 't' }

// HasForeign reports whether a signature stands in the body that belongs to another
// vendor than the dialect's, or came in an id.
func (b *Body) HasForeign() bool {
	return bytes.Contains(b.Raw, []byte(foreign)) || bytes.Contains(b.Raw, []byte(foreignBase64))
}

// A Patch sets a member of a [Body]; a nil Value takes it away.
type Patch struct {
	Name  string
	Value jsontext.Value
}

// Patched returns the bytes with the patches applied. Without any it returns Raw.
func (b *Body) Patched(patches ...Patch) []byte {
	if len(patches) == 0 {
		return b.Raw
	}
	return bytes.Join(b.Spliced(patches...), nil)
}

// Spliced returns what Patched does in pieces, of which those that stay as they are lie in Raw.
func (b *Body) Spliced(patches ...Patch) (pieces [][]byte) {
	if len(patches) == 0 {
		return [][]byte{b.Raw}
	}
	end := -1 // in Raw, of the last piece if it lies there
	keep := func(from, to int) {
		if last := len(pieces) - 1; from == end {
			pieces[last] = pieces[last][:len(pieces[last])+to-from]
		} else {
			pieces = append(pieces, b.Raw[from:to])
		}
		end = to
	}
	write := func(p []byte) { pieces, end = append(pieces, p), -1 }
	keep(0, b.open)
	at, first := b.open, true // what of Raw was dealt with; nothing was written yet
	for _, m := range b.members {
		i := slices.IndexFunc(patches, func(p Patch) bool { return p.Name == m.name })
		if i >= 0 && patches[i].Value == nil {
			at = m.limit
			continue
		}
		if gap := b.Raw[at:m.start]; first && bytes.IndexByte(gap, ',') >= 0 {
			write(bytes.Replace(gap, []byte{','}, nil, 1))
		} else {
			keep(at, m.start)
		}
		first = false
		if at = m.limit; i < 0 {
			keep(m.start, m.limit)
			continue
		}
		keep(m.start, m.value)
		write(patches[i].Value)
	}
	for _, p := range patches {
		if p.Value == nil || slices.ContainsFunc(b.members, func(m member) bool { return m.name == p.Name }) {
			continue
		}
		var added []byte
		if !first {
			added = append(added, ',')
		}
		first = false
		write(append(append(appendString(added, p.Name), ':'), p.Value...))
	}
	keep(at, len(b.Raw))
	return pieces
}

// String returns s as JSON.
func String(s string) jsontext.Value { return appendString(nil, s) }

func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // what is not UTF-8 is replaced
	return dst
}
