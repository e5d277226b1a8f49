package accesslog

import (
	"strconv"

	"github.com/go-json-experiment/json"
)

// maxValue bounds the text of one value, in bytes.
const maxValue = 8 << 10

// A value is what an operator comes to. The zero value is none.
type value struct {
	kind   kind
	text   string
	number int64
	any    any
}

type kind uint8

const (
	missing kind = iota
	text
	number
	other // what an expression comes to
)

func textOf(s string, ok bool) value {
	if !ok || s == "" {
		return value{}
	}
	return value{kind: text, text: s}
}

func numberOf(n int64) value { return value{kind: number, number: n} }

func anyOf(v any, ok bool) value {
	switch s, isText := v.(string); {
	case !ok || v == nil:
		return value{}
	case isText:
		return value{kind: text, text: s}
	default:
		return value{kind: other, any: v}
	}
}

func (v value) appendJSON(b []byte) []byte {
	switch v.kind {
	case text:
		return appendQuoted(b, v.text)
	case number:
		return strconv.AppendInt(b, v.number, 10)
	case other:
		if j, err := json.Marshal(v.any, json.Deterministic(true)); err == nil && len(j) <= maxValue {
			return append(b, j...)
		}
	case missing:
	}
	return append(b, "null"...)
}

// appendText appends v with what would end a line as space.
func (v value) appendText(b []byte) []byte {
	switch v.kind {
	case text:
		for i := range len(v.text) {
			c := v.text[i]
			if c < ' ' || c == 0x7f {
				c = ' '
			}
			b = append(b, c)
		}
		return b
	case number, other:
		return v.appendJSON(b)
	case missing:
	}
	return append(b, '-')
}
