package llm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A FieldDefault sets a field of a request, in the dialect of the client.
type FieldDefault struct {
	path     []step
	source   string
	value    jsontext.Value
	override bool
}

// A step is a member of an object or an element of an array.
type step struct {
	name  string
	index int // of an element; -1 for a member
}

// NewFieldDefault returns the default for the field at path: keys between dots, with a \ before
// a dot that belongs to a key, and indexes such as [0]; a $. in front means nothing. value is JSON.
// A string that is JSON itself counts as that JSON. With override it replaces what the client
// says, else it is for clients that say nothing, not even null.
func NewFieldDefault(path string, value []byte, override bool) (FieldDefault, error) {
	d := FieldDefault{source: path, override: override, value: jsontext.Value(value).Clone()}
	if !d.value.IsValid() {
		return d, errors.New("the value is not JSON")
	}
	if d.value.Kind() == '"' {
		inner := dialect.Strings(d.value)[0]
		if v := jsontext.Value(inner); v.IsValid() {
			d.value = jsontext.Value(strings.TrimSpace(inner))
		} else if t := strings.TrimSpace(inner); strings.HasPrefix(t, "{") || strings.HasPrefix(t, "[") {
			return d, errors.New("the value begins like JSON but is not")
		}
	}
	var err error
	d.path, err = steps(strings.TrimPrefix(path, "$."))
	return d, err
}

// steps reads a path.
func steps(path string) (out []step, err error) {
	name, named := "", false
	end := func() {
		if named {
			out = append(out, step{name, -1})
		}
		name, named = "", false
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			name, named = name+path[i:i+1], true
		case c == '.':
			end()
		case c == '[':
			end()
			n := strings.IndexByte(path[i:], ']')
			if n < 0 {
				return nil, fmt.Errorf("the path %q lacks a ]", path)
			}
			index, err := strconv.Atoi(path[i+1 : i+n])
			if err != nil || index < 0 {
				return nil, fmt.Errorf("the path %q has no index between [ and ]", path)
			}
			out = append(out, step{"", index})
			i += n
		default:
			name, named = name+path[i:i+1], true
		}
	}
	end()
	if len(out) == 0 || out[0].index >= 0 {
		return nil, fmt.Errorf("the path %q does not begin with a key", path)
	}
	return out, nil
}

// setFields sets the fields that the policy says: first those that replace. It returns nil when
// nothing changes.
func (q *query) setFields(p *Policy, b *dialect.Body) ([]byte, error) {
	out := jsontext.Value(b.Raw)
	changed := false
	for _, override := range []bool{true, false} {
		for i := range p.Defaults {
			d := &p.Defaults[i]
			if d.override != override {
				continue
			}
			v, err := set(out, d.path, d)
			if err != nil {
				q.cfg.Logger.Warn("LLM field default left out", "backend", q.cfg.Name, "path", d.source, "reason", err)
				continue
			}
			if v != nil {
				out, changed = v, true
			}
		}
	}
	if !changed {
		return nil, nil
	}
	return out, nil
}

// set returns v with the default at path; nil when it is as it was. A nil v is not there yet.
func set(v jsontext.Value, path []step, d *FieldDefault) (jsontext.Value, error) {
	if len(path) == 0 {
		if v != nil && !d.override {
			return nil, nil
		}
		return d.value, nil
	}
	at := path[0]
	if at.index >= 0 {
		return setElement(v, path, d)
	}
	if v == nil {
		v = jsontext.Value("{}")
	}
	if v.Kind() != '{' {
		return nil, fmt.Errorf("what is to have the key %q is no object", at.name)
	}
	b, err := dialect.ParseBody(v)
	if err != nil {
		return nil, err
	}
	inner, err := set(b.Get(at.name), path[1:], d)
	if inner == nil || err != nil {
		return nil, err
	}
	return b.Patched(dialect.Patch{Name: at.name, Value: inner}), nil
}

// setElement is set for an element of an array.
func setElement(v jsontext.Value, path []step, d *FieldDefault) (jsontext.Value, error) {
	var elements []jsontext.Value
	dialect.Elements(v, func(_ int, e jsontext.Value) { elements = append(elements, e) })
	i := path[0].index
	if i >= len(elements) {
		return nil, fmt.Errorf("there is no element %d", i)
	}
	inner, err := set(elements[i], path[1:], d)
	if inner == nil || err != nil {
		return nil, err
	}
	elements[i] = inner
	return array(elements), nil
}

// array returns an array of the elements.
func array(elements []jsontext.Value) jsontext.Value {
	out := jsontext.Value{'['}
	for i, e := range elements {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e...)
	}
	return append(out, ']')
}
