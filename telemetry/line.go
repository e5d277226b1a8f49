package telemetry

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A line is one line of a log as it is written.
type line struct {
	buf    []byte
	format Format
}

// lines keeps lines that nobody uses.
var lines = sync.Pool{New: func() any { return &line{buf: make([]byte, 0, 1024)} }}

// begin begins a line with what log/slog puts first.
func (l *line) begin(format Format, at time.Time) {
	l.format = format
	if format == Text {
		l.buf = append(l.buf[:0], "time="...)
		l.buf = at.AppendFormat(l.buf, "2006-01-02T15:04:05.000Z07:00")
		l.buf = append(l.buf, " level=INFO msg=request"...)
		return
	}
	l.buf = append(l.buf[:0], `{"time":"`...)
	l.buf = at.AppendFormat(l.buf, time.RFC3339Nano)
	l.buf = append(l.buf, `","level":"INFO","msg":"request"`...)
}

func (l *line) end() {
	if l.format == JSON {
		l.buf = append(l.buf, '}')
	}
	l.buf = append(l.buf, '\n')
}

// dollars appends billionths of a dollar as dollars, with all of their digits.
func (l *line) dollars(key string, nano int64) {
	l.key(key)
	l.buf = strconv.AppendInt(l.buf, nano/1e9, 10)
	l.buf = append(l.buf, '.')
	for digit, rest := int64(1e8), nano%1e9; digit > 0 && (rest > 0 || digit == 1e8); digit /= 10 {
		l.buf = append(l.buf, byte('0'+rest/digit))
		rest %= digit
	}
}

// key appends a key, which needs no quoting.
func (l *line) key(key string) {
	if l.format == Text {
		l.buf = append(l.buf, ' ')
		l.buf = append(l.buf, key...)
		l.buf = append(l.buf, '=')
		return
	}
	l.buf = append(l.buf, `,"`...)
	l.buf = append(l.buf, key...)
	l.buf = append(l.buf, `":`...)
}

// text appends a field whose value is cut to limit bytes, unless it is empty.
func (l *line) text(key, value string, limit int) {
	if value == "" {
		return
	}
	l.key(key)
	l.quote(clip(value, limit))
}

func (l *line) quote(s string) {
	switch {
	case l.format == JSON:
		l.buf, _ = jsontext.AppendQuote(l.buf, s) // what is not UTF-8 is replaced
	case bare(s):
		l.buf = append(l.buf, s...)
	default:
		l.buf = strconv.AppendQuote(l.buf, s)
	}
}

// bare reports whether s can stand without quotes in the text format.
func bare(s string) bool {
	for i := 0; ; i++ {
		if i == len(s) {
			return true
		}
		if c := s[i]; c <= ' ' || c > '~' || c == '=' || c == '"' {
			break // it takes a closer look
		}
	}
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '=' || r == '"' || !unicode.IsPrint(r)
	})
}

func (l *line) number(key string, n int64) {
	l.key(key)
	l.buf = strconv.AppendInt(l.buf, n, 10)
}

// millis appends a duration in milliseconds, to the microsecond.
func (l *line) millis(key string, d time.Duration) {
	l.key(key)
	l.buf = strconv.AppendFloat(l.buf, float64(d.Round(time.Microsecond))/float64(time.Millisecond), 'f', -1, 64)
}

// source appends an address and port, if they are known.
func (l *line) source(a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	l.key("source")
	if l.format == JSON {
		l.buf = append(l.buf, '"')
	}
	l.buf = a.AppendTo(l.buf)
	if l.format == JSON {
		l.buf = append(l.buf, '"')
	}
}
