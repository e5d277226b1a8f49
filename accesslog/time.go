package accesslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A timeFormat is a compiled strftime format: literal text, or what appends a part of a time.
type timeFormat []func([]byte, time.Time) []byte

// defaultTime is how times read without a format.
const defaultTime = "2006-01-02T15:04:05.000Z"

// newTimeFormat compiles a strftime format, with Envoy's %s, and %3f, %6f and %9f for parts of a second.
func newTimeFormat(s string) (timeFormat, error) {
	if s == "" {
		return timeFormat{layout(defaultTime)}, nil
	}
	var out timeFormat
	for s != "" {
		before, rest, found := strings.Cut(s, "%")
		if before != "" {
			out = append(out, func(b []byte, _ time.Time) []byte { return append(b, before...) })
		}
		if !found {
			break
		}
		n := 1
		if rest != "" && '1' <= rest[0] && rest[0] <= '9' {
			n = 2
		}
		if len(rest) < n {
			return nil, fmt.Errorf("the format of a time ends in %%")
		}
		f := conversion(rest[:n])
		if f == nil {
			return nil, fmt.Errorf("%%%s in the format of a time is not known: there are the conversions of strftime, and %%3f, %%6f and %%9f", rest[:n])
		}
		out = append(out, f)
		s = rest[n:]
	}
	return out, nil
}

func (f timeFormat) format(t time.Time) string {
	t = t.UTC()
	var b []byte
	for _, part := range f {
		b = part(b, t)
	}
	return string(b)
}

func layout(l string) func([]byte, time.Time) []byte {
	return func(b []byte, t time.Time) []byte { return t.AppendFormat(b, l) }
}

// conversion returns what one conversion appends, nil for one that is not known.
func conversion(c string) func([]byte, time.Time) []byte {
	layouts := map[string]string{
		"Y": "2006", "y": "06", "m": "01", "d": "02", "e": "_2", "H": "15", "I": "03", "M": "04", "S": "05", "p": "PM", "j": "002",
		"a": "Mon", "A": "Monday", "b": "Jan", "h": "Jan", "B": "January", "Z": "MST", "z": "-0700", "T": "15:04:05", "D": "01/02/06", "F": "2006-01-02", "R": "15:04",
	}
	if l, ok := layouts[c]; ok {
		return layout(l)
	}
	switch c {
	case "%":
		return layout("%")
	case "n":
		return layout(" ") // an entry is one line
	case "s":
		return func(b []byte, t time.Time) []byte { return strconv.AppendInt(b, t.Unix(), 10) }
	case "f":
		c = "9f"
	}
	if len(c) == 2 && c[1] == 'f' {
		digits := int(c[0] - '0')
		return func(b []byte, t time.Time) []byte { return append(b, fmt.Sprintf("%09d", t.Nanosecond())[:digits]...) }
	}
	return nil
}
