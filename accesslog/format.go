package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A Format is a compiled form of entries: text between command operators. It is immutable and safe for concurrent use.
type Format struct {
	parts  []part
	header bool // it asks for the header of the answer
	line   bool // it ends with a line's end
}

// A part is text, or an operator.
type part struct {
	text   string
	op     operator
	length int // the longest text of the value, 0 for no bound
	// template, in JSON, are the parts of one string; native is an operator that keeps its type.
	template []part
	native   bool
}

// DefaultText is the text format of entries that say none, which is Envoy's.
const DefaultText = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"`

// maxEntry bounds one rendered entry, in bytes; what is longer is cut.
const maxEntry = 64 << 10

// maxTemplate bounds a format, in bytes.
const maxTemplate = 64 << 10

// ErrFormat is what errors of formats are.
var ErrFormat = errors.New("format")

// CompileText compiles a string format, one line an entry.
func CompileText(s string) (*Format, error) {
	f, err := CompileString(s)
	if err != nil {
		return nil, err
	}
	f.line = true
	return f, nil
}

// CompileString is CompileText for a value that is no line of its own.
func CompileString(s string) (*Format, error) {
	f := &Format{}
	var err error
	f.parts, err = f.parse(s)
	return f, err
}

// parse takes a template apart.
func (f *Format) parse(s string) (out []part, err error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("the %w is over the limit of %d bytes", ErrFormat, maxTemplate)
	}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out = append(out, part{text: text.String()})
			text.Reset()
		}
	}
	for s != "" {
		before, rest, found := strings.Cut(s, "%")
		text.WriteString(before)
		if !found {
			break
		}
		if strings.HasPrefix(rest, "%") {
			text.WriteByte('%')
			s = rest[1:]
			continue
		}
		p, n, err := f.command(rest)
		if err != nil {
			return nil, err
		}
		flush()
		out = append(out, p)
		s = rest[n:]
	}
	flush()
	return out, nil
}

// command reads one operator at the beginning of s, behind its first %, and says how long it is.
func (f *Format) command(s string) (p part, n int, err error) {
	for n < len(s) && (s[n] == '_' || 'A' <= s[n] && s[n] <= 'Z' || '0' <= s[n] && s[n] <= '9') {
		n++
	}
	name, argument, has := s[:n], "", false
	if name == "" {
		return p, 0, fmt.Errorf("a %% in the %w begins no command operator: write %%%% for a percent sign", ErrFormat)
	}
	if strings.HasPrefix(s[n:], "(") {
		end := closing(s[n:])
		if end < 0 {
			return p, 0, fmt.Errorf("%%%s( in the %w has no )%% at its end", name, ErrFormat)
		}
		argument, has = s[n+1:n+end], true
		n += end + 1
	}
	if strings.HasPrefix(s[n:], ":") {
		digits := n + 1
		for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
			digits++
		}
		if p.length, err = strconv.Atoi(s[n+1 : digits]); err != nil || p.length == 0 {
			return p, 0, fmt.Errorf("%%%s: in the %w has no length", name, ErrFormat)
		}
		n = digits
	}
	if !strings.HasPrefix(s[n:], "%") {
		return p, 0, fmt.Errorf("%%%s in the %w has no %% at its end", name, ErrFormat)
	}
	if p.op, err = newOperator(name, argument, has); err != nil {
		return p, 0, err
	}
	f.header = f.header || asksAnswer(name)
	return p, n + 1, nil
}

// closing returns where the argument at the beginning of s ends: at a ) with % or a length and % behind it.
func closing(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != ')' {
			continue
		}
		rest := s[i+1:]
		if strings.HasPrefix(rest, ":") {
			rest = strings.TrimLeft(rest[1:], "0123456789")
		}
		if strings.HasPrefix(rest, "%") {
			return i
		}
	}
	return -1
}

// CompileJSON compiles a JSON object whose strings are templates, one line an entry.
func CompileJSON(object []byte) (*Format, error) {
	f, err := CompileObject(object)
	if err == nil {
		f.line = true
	}
	return f, err
}

// CompileObject is CompileJSON for a value that is no line of its own.
func CompileObject(object []byte) (*Format, error) {
	f := &Format{}
	if len(object) > maxTemplate {
		return nil, fmt.Errorf("the %w is over the limit of %d bytes", ErrFormat, maxTemplate)
	}
	d := jsontext.NewDecoder(bytes.NewReader(object))
	var text []byte
	for {
		kind, n := d.StackIndex(d.StackDepth())
		key := kind == '{' && n%2 == 0
		token, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			f.parts = append(f.parts, part{text: string(text)})
			return f, nil
		case err != nil:
			return nil, fmt.Errorf("the %w is no JSON object: %w", ErrFormat, err)
		}
		closes := token.Kind() == '}' || token.Kind() == ']'
		switch {
		case closes || d.StackDepth() == 0:
		case kind == '{' && !key && n > 0:
			text = append(text, ':')
		case n > 0:
			text = append(text, ',')
		}
		if token.Kind() != '"' || key {
			text = appendToken(text, token)
			continue
		}
		parts, err := f.parse(token.String())
		switch {
		case err != nil:
			return nil, err
		case len(parts) == 1 && parts[0].op != nil:
			parts[0].native = true
			f.parts = append(f.parts, part{text: string(text)}, parts[0])
			text = text[:0]
		case len(parts) > 1:
			f.parts = append(f.parts, part{text: string(text)}, part{template: parts})
			text = text[:0]
		default:
			plain := ""
			if len(parts) == 1 {
				plain = parts[0].text
			}
			text = appendQuoted(text, plain)
		}
	}
}

func appendToken(b []byte, t jsontext.Token) []byte {
	if t.Kind() == '"' {
		return appendQuoted(b, t.String())
	}
	return append(b, t.String()...)
}

// appendQuoted appends s as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	b, _ = jsontext.AppendQuote(b, s) // it is valid
	return b
}

// Append appends the entry as the format has it.
func (f *Format) Append(b []byte, e *Entry) []byte {
	from := len(b)
	for i := range f.parts {
		b = f.parts[i].append(b, e)
	}
	if len(b)-from > maxEntry && !f.isJSON() {
		b = append(b[:from+maxEntry], "…"...)
	}
	if f.line && (len(b) == from || b[len(b)-1] != '\n') {
		b = append(b, '\n')
	}
	return b
}

// isJSON reports whether cutting what it renders would break it.
func (f *Format) isJSON() bool { return len(f.parts) > 0 && strings.HasPrefix(f.parts[0].text, "{") }

func (p *part) append(b []byte, e *Entry) []byte {
	switch {
	case p.op == nil && p.template == nil:
		return append(b, p.text...)
	case p.template != nil:
		var inner []byte
		for i := range p.template {
			inner = p.template[i].append(inner, e)
		}
		return appendQuoted(b, string(inner))
	case p.native:
		return p.cut(p.op(e)).appendJSON(b)
	default:
		return p.cut(p.op(e)).appendText(b)
	}
}

// cut bounds the text of a value.
func (p *part) cut(v value) value {
	limit := maxValue
	if p.length > 0 {
		limit = min(limit, p.length)
	}
	if v.kind == text && len(v.text) > limit {
		for limit > 0 && !utf8.RuneStart(v.text[limit]) {
			limit--
		}
		v.text = v.text[:limit]
	}
	return v
}
