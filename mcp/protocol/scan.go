package protocol

import (
	"bytes"
	"iter"

	"github.com/go-json-experiment/json/jsontext"
)

// Get returns the raw JSON value at the path of member names inside the JSON
// object obj, nil when there is none. obj must be, or be part of, what Parse
// checked. Without a path it returns obj.
func Get(obj []byte, path ...string) []byte {
	for _, name := range path {
		if obj = member(obj, name); obj == nil {
			return nil
		}
	}
	return obj
}

// MayHold reports whether part may stand in a name of obj, or of what is in it. It costs far less than to look for
// each of many names that begin alike, most of which are not there.
func MayHold(obj []byte, part string) bool { return !lacks(obj, part) }

// GetString is Get for a string value, decoded; ok tells whether there was one.
func GetString(obj []byte, path ...string) (s string, ok bool) { return String(Get(obj, path...)) }

// String decodes a raw JSON string of checked bytes; ok is false for any other
// value, nil included.
func String(v []byte) (s string, ok bool) {
	b, ok := text(v)
	return string(b), ok
}

// Text is String for what is only looked at: the bytes may be those of v.
func Text(v []byte) (b []byte, ok bool) { return text(v) }

// Members iterates over the members of a checked JSON object in order: decoded
// name, raw value. A value that is no object has none.
func Members(obj []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for w := walk(obj, '{'); w.next(); {
			if !yield(string(w.name()), w.value()) {
				return
			}
		}
	}
}

// Elements iterates over the raw elements of a checked JSON array. A value that
// is no array has none.
func Elements(arr []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for w := walk(arr, '['); w.next(); {
			if !yield(w.value()) {
				return
			}
		}
	}
}

// member returns the raw value of the member called name, nil when there is
// none.
func member(obj []byte, name string) []byte {
	if lacks(obj, name) {
		return nil
	}
	for w := walk(obj, '{'); w.next(); {
		if w.is(name) {
			return w.value()
		}
	}
	return nil
}

// lacks reports whether obj surely has no member called name: a look at the bytes costs far
// less than a walk, and most members that are looked for are not there. A name that is written
// with an escape is not seen.
func lacks(obj []byte, name string) bool {
	var room [64]byte // for most names, those of _meta included, so that nothing is allocated
	return !bytes.Contains(obj, append(room[:0], name...)) && bytes.IndexByte(obj, '\\') < 0
}

// A walker steps through the members of a checked object or the elements of a
// checked array.
type walker struct {
	b        []byte
	pos      int // where the next member may begin
	object   bool
	key      int // of the member's key, objects only
	keyEnd   int // after the closing quote
	val, end int // of the value
}

// walk returns a walker over b, which has nothing to walk over when b does not
// begin with open.
func walk(b []byte, open byte) walker {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != open {
		return walker{}
	}
	return walker{b: b, pos: i + 1, object: open == '{'}
}

// next moves to the next member.
func (w *walker) next() bool {
	i := skipSpace(w.b, w.pos)
	if i < len(w.b) && w.b[i] == ',' {
		i = skipSpace(w.b, i+1)
	}
	if i >= len(w.b) || w.b[i] == '}' || w.b[i] == ']' {
		return false
	}
	if w.object {
		w.key = i
		w.keyEnd = skipString(w.b, i)
		i = skipSpace(w.b, w.keyEnd)
		if i >= len(w.b) || w.b[i] != ':' || w.keyEnd < w.key+2 {
			return false
		}
		i = skipSpace(w.b, i+1)
	}
	w.val, w.end = i, skipValue(w.b, i)
	w.pos = w.end
	return w.end > w.val
}

// value returns the raw value of the current member.
func (w *walker) value() []byte { return w.b[w.val:w.end:w.end] }

// name returns the decoded key of the current member.
func (w *walker) name() []byte {
	key := w.b[w.key:w.keyEnd]
	if bytes.IndexByte(key, '\\') < 0 {
		return key[1 : len(key)-1]
	}
	s, _ := jsontext.AppendUnquote(nil, key) // was checked
	return s
}

// is reports whether the current member is called name.
func (w *walker) is(name string) bool {
	key := w.b[w.key+1 : w.keyEnd-1]
	return string(key) == name && bytes.IndexByte(key, '\\') < 0 ||
		bytes.IndexByte(key, '\\') >= 0 && string(w.name()) == name
}

// skipSpace returns the index of the first byte from i on that is not white
// space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			break
		}
		i += quote
		escapes := i
		for b[escapes-1] == '\\' {
			escapes--
		}
		i++
		if (i-1-escapes)%2 == 0 {
			return i
		}
	}
	return len(b)
}

// skipValue returns the index after the value that begins at i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; i < len(b); {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return i
	default:
		for ; i < len(b); i++ {
			switch b[i] {
			case ',', '}', ']', ' ', '\t', '\n', '\r':
				return i
			}
		}
		return i
	}
}
