package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// A rule says what a Go type of the Gateway API or of Kubernetes permits beyond its
// shape. The types themselves don't: in a cluster that is the API server's work.
type rule struct {
	enum     []string                                        // of a string: what it may be
	check    func(s string) string                           // of a string: what is wrong, or ""
	min, max int64                                           // of an integer, if max > 0
	required []string                                        // of an object: fields that must be there
	notEmpty []string                                        // of an object: lists that must have an item
	most     map[string]int                                  // of an object: the longest that lists may be
	unique   map[string]string                               // of an object: lists whose items differ in a field
	defaults map[string]any                                  // of an object: what fields are when they are not there
	object   func(c *checker, path string, m map[string]any) // of an object: all else
}

// A checker compares the fields of an object with a Go type, and fills in defaults.
type checker struct {
	rules map[reflect.Type]rule
	found []finding

	removed map[string]bool // paths of values that were reported and are gone
}

// A finding is a problem and the place it is about.
type finding struct {
	Problem
	onKey  bool // the caret goes under the name of the field
	offset int  // of the character in the string that is wrong, from 1; 0 is the whole
}

// add reports what is wrong with the field at path.
func (c *checker) add(code, path, format string, args ...any) *finding {
	if code == CodeRequired && c.removed[path] {
		return &finding{} // it is there, and was reported
	}
	c.found = append(c.found, finding{Problem: Problem{Class: Invalid, Code: code, Path: path, Message: fmt.Sprintf(format, args...)}})
	return &c.found[len(c.found)-1]
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value checks v, the value at path, against t. It reports whether v has the right
// type; what it holds of a wrong type is removed, so that the rest can be decoded.
func (c *checker) value(path string, t reflect.Type, v any) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return c.decoded(path, t, v)
	}
	switch t.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			return c.wrongType(path, "an object", v)
		}
		c.object(path, t, m)
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			return c.wrongType(path, "an object", v)
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !c.value(child(path, k), t.Elem(), m[k]) {
				delete(m, k)
			}
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return c.bytes(path, v)
		}
		l, ok := v.([]any)
		if !ok {
			return c.wrongType(path, "a list", v)
		}
		for i := range l {
			if item := index(path, i); l[i] == nil {
				c.add(CodeType, item, "an item of `%s` is empty", last(path))
			} else if !c.value(item, t.Elem(), l[i]) {
				l[i] = nil
			}
		}
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			return c.wrongType(path, "a string", v)
		}
		c.text(path, t, s)
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return c.wrongType(path, "true or false", v)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return c.integer(path, t, v)
	case reflect.Float32, reflect.Float64:
		switch v.(type) {
		case int64, float64:
		default:
			return c.wrongType(path, "a number", v)
		}
	}
	return true
}

// wrongType reports that v is not what is wanted.
func (c *checker) wrongType(path, want string, v any) bool {
	got := "nothing"
	switch v.(type) {
	case map[string]any:
		got = "an object"
	case []any:
		got = "a list"
	case string:
		got = "a string"
	case bool:
		got = "true or false"
	case int64, float64:
		got = "a number"
	}
	if f, ok := v.(float64); ok && want == "a whole number" && f != math.Trunc(f) {
		got = "one with a fraction"
	}
	f := c.add(CodeType, path, "`%s` must be %s, not %s", last(path), want, got)
	switch {
	case want == "a string" && (got == "a number" || got == "true or false"):
		f.Label = "put it in quotes"
	case got == "a string" && want != "an object" && want != "a list":
		f.Label = notText(v.(string))
	case want == "a list":
		f.Label = "put `- ` in front of each item"
	}
	return false
}

// notText advises on text where something else is wanted.
func notText(s string) string {
	switch strings.ToLower(s) {
	case "yes", "on", "y":
		return "write true"
	case "no", "off", "n":
		return "write false"
	}
	var v any
	if json.Unmarshal([]byte(s), &v) == nil {
		return "remove the quotes"
	}
	return ""
}

// decoded checks v against a type that decodes itself.
func (c *checker) decoded(path string, t reflect.Type, v any) bool {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, reflect.New(t).Interface())
	}
	if err == nil {
		return true
	}
	c.add(CodeInvalidValue, path, "`%s` is not of the right form for %s", last(path), strings.ToLower(t.Name()))
	return false
}

// bytes checks base64.
func (c *checker) bytes(path string, v any) bool {
	s, ok := v.(string)
	if !ok {
		return c.wrongType(path, "a string", v)
	}
	if _, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(s)); err != nil {
		f := c.add(CodeInvalidValue, path, "`%s` is not base64", last(path))
		f.Help = "encode it with base64, or put it into stringData as it is"
		return false
	}
	return true
}

// integer checks a whole number.
func (c *checker) integer(path string, t reflect.Type, v any) bool {
	n, ok := v.(int64)
	if f, isFloat := v.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		n, ok = int64(f), true
	}
	if !ok {
		return c.wrongType(path, "a whole number", v)
	}
	r := c.rules[t]
	if last(path) == "port" {
		r.min, r.max = 1, 65535
	}
	if r.max == 0 {
		r.min, r.max = math.MinInt32, math.MaxInt32
		if t.Bits() == 64 {
			r.min, r.max = math.MinInt64, math.MaxInt64
		}
		if t.Bits() < 32 || t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
			r.min, r.max = 0, int64(1)<<min(t.Bits(), 53)-1
		}
	}
	if n < r.min || n > r.max {
		c.add(CodeInvalidValue, path, "`%s` must be between %d and %d", last(path), r.min, r.max)
		return false
	}
	return true
}

// text checks a string.
func (c *checker) text(path string, t reflect.Type, s string) {
	r := c.rules[t]
	switch {
	case len(r.enum) > 0 && !slices.Contains(r.enum, s):
		f := c.add(CodeEnum, path, "`%s` must be one of %s", last(path), listed(r.enum))
		if meant := Suggest(s, r.enum); meant != "" {
			f.Label = "did you mean `" + meant + "`?"
		}
	case r.check != nil:
		if wrong := r.check(s); wrong != "" {
			c.add(CodeInvalidValue, path, "`%s` %s", last(path), wrong)
		}
	}
}

// object checks the fields of an object.
func (c *checker) object(path string, t reflect.Type, m map[string]any) {
	r := c.rules[t]
	fields := fieldsOf(t)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if len(c.found) > maxProblems {
			return
		}
		at := child(path, k)
		t, known := fields[k]
		switch {
		case !known:
			if near := c.unknown(at, k, slices.Sorted(maps.Keys(fields))); near != "" {
				c.removed[child(path, near)] = true
			}
			delete(m, k)
		case m[k] == nil:
			delete(m, k)
		case !c.value(at, t, m[k]):
			delete(m, k)
			c.removed[at] = true
		}
	}
	for _, k := range r.required {
		if m[k] == nil {
			c.add(CodeRequired, child(path, k), "`%s` is missing", k).onKey = true
		}
	}
	for _, k := range r.notEmpty {
		if l, ok := m[k].([]any); ok && len(l) == 0 {
			c.add(CodeRequired, child(path, k), "`%s` must have at least one item", k).onKey = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.most)) {
		if l, ok := m[k].([]any); ok && len(l) > r.most[k] {
			c.add(CodeTooLong, child(path, k), "`%s` may have at most %d items, and has %d", k, r.most[k], len(l)).onKey = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.unique)) {
		c.unique(child(path, k), m[k], r.unique[k])
	}
	for _, k := range slices.Sorted(maps.Keys(r.defaults)) {
		if m[k] == nil {
			m[k] = runtime.DeepCopyJSONValue(r.defaults[k])
			if t, ok := fields[k]; ok {
				c.value(child(path, k), t, m[k]) // defaults within the default
			}
		}
	}
	if r.object != nil {
		r.object(c, path, m)
	}
}

// unknown reports a field that is not known. It returns the one that was meant.
func (c *checker) unknown(path, name string, known []string) string {
	f := c.add(CodeUnknownField, path, "unknown field `%s`", name)
	f.onKey = true
	near := Suggest(name, known)
	switch {
	case near != "":
		f.Label = "did you mean `" + near + "`?"
	case len(known) > 0 && len(known) <= 24:
		f.Help = "known fields: " + listed(known)
	}
	return near
}

// unique reports items of a list that have the same value in a field.
func (c *checker) unique(path string, v any, field string) {
	l, _ := v.([]any)
	first := map[any]int{}
	for i := range l {
		item, _ := l[i].(map[string]any)
		switch key := item[field].(type) {
		case string, int64:
			if j, twice := first[key]; twice {
				c.add(CodeDuplicateItem, index(path, i)+"."+field, "two items of `%s` have the same %s", last(path), field).Help =
					fmt.Sprintf("%s has it already: choose another", index(last(path), j))
				continue
			}
			first[key] = i
		}
	}
}

// fieldsOf returns the fields of t by their names in JSON, those of embedded types
// included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			maps.Copy(out, fieldsOf(f.Type))
		case name != "":
			out[name] = f.Type
		}
	}
	return out
}

// child returns the path of field k of the object at path.
func child(path, k string) string {
	if path == "" {
		return k
	}
	return path + "." + k
}

// index returns the path of item i of the list at path.
func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// last returns the name of the field at path.
func last(path string) string {
	path = path[strings.LastIndexByte(path, '.')+1:]
	if name, _, ok := strings.Cut(path, "["); ok && name != "" {
		return name
	}
	return path
}
