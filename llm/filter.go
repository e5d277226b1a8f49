package llm

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/guard"
)

// A filter masks one text of an answer that comes in pieces. It remembers whether it changed
// anything.
type filter interface {
	write(text string) (out string, rejected bool)
	close() (out string, rejected bool)
}

// A textFilter is the filter of what a model says and thinks.
type textFilter struct{ *guard.Stream }

func (f textFilter) write(text string) (string, bool) { return f.Write(text) }
func (f textFilter) close() (string, bool)            { return f.Close() }

// An argumentFilter is the filter of the arguments of a call: JSON, of which each string is a text of its
// own, as it reads once it is decoded. What turns out not to be JSON is one text.
type argumentFilter struct {
	regex   *guard.Regex
	text    *guard.Stream // of the string that is open, or of all that is left
	raw     bool          // it is not JSON
	begun   bool
	found   bool   // something was masked in a string before
	pending string // an escape that is cut
}

func (f *argumentFilter) write(text string) (string, bool) {
	text = f.pending + text
	f.pending = ""
	var out strings.Builder
	for len(text) > 0 {
		if f.raw {
			said, no := f.text.Write(text)
			out.WriteString(said)
			return out.String(), no
		}
		if f.text == nil {
			text = f.outside(&out, text)
			continue
		}
		rest, no := f.inside(&out, text)
		if no {
			return "", true
		}
		text = rest
	}
	return out.String(), false
}

// outside passes what stands between strings, up to behind the next quote, and returns the rest.
func (f *argumentFilter) outside(out *strings.Builder, text string) string {
	i := 0
	for i < len(text) && text[i] != '"' {
		c := text[i]
		space := strings.IndexByte(" \t\r\n", c) >= 0
		if strings.IndexByte("{}[]:,0123456789+-.eEtrufalsn", c) < 0 && !space || !f.begun && !space && c != '{' && c != '[' {
			f.raw, f.text = true, f.regex.NewStream()
			break
		}
		f.begun = f.begun || !space
		i++
	}
	if i < len(text) && !f.raw {
		f.begun, f.text = true, f.regex.NewStream()
		i++
	}
	out.WriteString(text[:i])
	return text[i:]
}

// inside takes a part of the open string, and returns the rest.
func (f *argumentFilter) inside(out *strings.Builder, text string) (rest string, rejected bool) {
	i := strings.IndexAny(text, `"\`)
	if i < 0 {
		i = len(text)
	}
	if i > 0 {
		return text[i:], f.say(out, text[:i])
	}
	if text[0] == '"' {
		said, no := f.text.Close()
		f.found = f.found || f.text.Found()
		f.text = nil
		writeEscaped(out, said)
		out.WriteByte('"')
		return text[1:], no
	}
	decoded, n := unescape(text)
	if n == 0 {
		f.pending = text
		return "", false
	}
	return text[n:], f.say(out, decoded)
}

func (f *argumentFilter) say(out *strings.Builder, text string) (rejected bool) {
	said, no := f.text.Write(text)
	writeEscaped(out, said)
	return no
}

func (f *argumentFilter) close() (string, bool) {
	var out strings.Builder
	rest := f.pending
	if f.pending = ""; f.text == nil {
		return rest, false
	}
	said, no := f.text.Close()
	if f.raw {
		return said, no
	}
	writeEscaped(&out, said)
	out.WriteString(rest)
	return out.String(), no
}

// writeEscaped writes text as it stands within a JSON string.
func writeEscaped(out *strings.Builder, text string) {
	if text == "" {
		return
	}
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		quoted, _ = jsontext.AppendQuote(nil, strings.ToValidUTF8(text, "\ufffd"))
	}
	out.Write(quoted[1 : len(quoted)-1])
}

// unescape reads the escape that text begins with (RFC 8259 section 7) and returns its length,
// 0 when it is cut.
func unescape(text string) (decoded string, n int) {
	if len(text) < 2 {
		return "", 0
	}
	if i := strings.IndexByte(`"\/bfnrt`, text[1]); i >= 0 {
		return "\"\\/\b\f\n\r\t"[i : i+1], 2
	}
	if text[1] != 'u' {
		return text[:2], 2
	}
	if len(text) < 6 {
		return "", 0
	}
	unit, err := strconv.ParseUint(text[2:6], 16, 16)
	if err != nil {
		return text[:2], 2
	}
	r := rune(unit)
	if !utf16.IsSurrogate(r) {
		return string(r), 6
	}
	if rest := text[6:]; len(rest) < 6 && strings.HasPrefix(`\u`, rest[:min(len(rest), 2)]) {
		return "", 0
	} else if len(rest) >= 6 && rest[:2] == `\u` {
		if low, err := strconv.ParseUint(rest[2:6], 16, 16); err == nil {
			if both := utf16.DecodeRune(r, rune(low)); both != utf8.RuneError {
				return string(both), 12
			}
		}
	}
	return "\ufffd", 6
}

// maskArguments masks the arguments of a call that are there as a whole.
func maskArguments(x *guard.Regex, text string) (string, bool) {
	f := argumentFilter{regex: x}
	head, no := f.write(text)
	if no {
		return "", true
	}
	tail, no := f.close()
	return head + tail, no
}
