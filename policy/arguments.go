package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Limits on the JSON that a rule looks into.
const (
	maxDepth  = 128     // levels of nesting
	maxValues = 100_000 // values, with those inside others
)

var (
	errDepth  = fmt.Errorf("JSON is nested deeper than %d", maxDepth)
	errValues = fmt.Errorf("JSON has more than %d values", maxValues)
)

// decodeObject decodes a JSON object strictly: a duplicate key, invalid UTF-8 or
// trailing data is an error, so that no other reader can see something else in it.
func decodeObject(data []byte) (ref.Val, error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, err
	}
	if v.Type() != types.MapType {
		return nil, errors.New("the arguments are not a JSON object")
	}
	return v, nil
}

// A decoder counts what it decodes.
type decoder struct {
	jsontext.Decoder
	values int
}

// decoders keeps decoders that nobody uses.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// release gives the decoder back, and lets go of what it read.
func (d *decoder) release() {
	d.Reset(bytes.NewBuffer(nil))
	decoders.Put(d)
}

// decodeJSON decodes one JSON value to a CEL value. A number without fraction and
// exponent that an int holds becomes an int, exactly; other numbers a double.
func decodeJSON(data []byte) (ref.Val, error) {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.values = 0
	d.Reset(bytes.NewBuffer(data)) // a Buffer is read in place
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON value")
	}
	return v, nil
}

func (d *decoder) value(depth int) (ref.Val, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	if d.values++; d.values > maxValues {
		return nil, errValues
	}
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case jsontext.KindNull:
		return types.NullValue, nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return types.Bool(t.Bool()), nil
	case jsontext.KindString:
		return types.String(t.String()), nil
	case jsontext.KindNumber:
		return decodeNumber(t.String())
	case jsontext.KindBeginArray:
		return d.array(depth)
	default:
		return d.members(depth)
	}
}

func decodeNumber(s string) (ref.Val, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return types.Int(i), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, errors.New("a JSON number is out of range")
	}
	return types.Double(f), nil
}

func (d *decoder) array(depth int) (ref.Val, error) {
	var out []ref.Val
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out), nil
}

func (d *decoder) members(depth int) (ref.Val, error) {
	out := map[ref.Val]ref.Val{}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := types.String(name.String())
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, out), nil
}
