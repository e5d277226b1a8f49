package v1alpha1

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Parse turns obj, a normalised object of kind, into the Go type of kind, with
// defaults filled in, and returns every mistake in it: wrong types, missing
// fields, values out of range, and what Validate of the type reports. obj is not
// changed, and its status is left out. The object is complete only when there are no errors, and nil when
// kind is not of this package. Unknown fields are no errors here: see
// [UnknownFields].
//
// Field paths are those of the normalised object; [Written] leads back to what
// was written. The bad value of an error is never a secret.
func Parse(kind string, obj map[string]any) (Object, field.ErrorList) {
	s := kindSchema(kind)
	if s == nil {
		return nil, field.ErrorList{field.NotSupported(field.NewPath("kind"), kind, Kinds())}
	}
	obj = deepCopy(obj).(map[string]any)
	delete(obj, "status")
	Default(kind, obj)
	c := checker{patterns: kindPatterns(kind), prune: true}
	c.value("", s, obj)
	o, err := Decode(kind, obj)
	if err != nil {
		if len(c.errs) == 0 {
			c.errs = append(c.errs, field.Invalid(nil, "", err.Error()))
		}
		return New(kind), c.errs
	}
	for _, e := range o.rules() {
		if !c.reported(e.Field) {
			c.errs = append(c.errs, e)
		}
	}
	return o, c.errs
}

// Check returns what is wrong in obj, a normalised object of kind, by the schema
// alone: wrong types, missing fields, values out of range.
func Check(kind string, obj map[string]any) field.ErrorList {
	c := checker{patterns: kindPatterns(kind)}
	if s := kindSchema(kind); s != nil {
		c.value("", s, obj)
	}
	return c.errs
}

// deepCopy returns a copy of v whose numbers have the types that the decoder
// knows, int64 and float64, however v was decoded.
func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k := range v {
			m[k] = deepCopy(v[k])
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i := range v {
			l[i] = deepCopy(v[i])
		}
		return l
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case uint64:
		if v > math.MaxInt64 {
			return float64(v)
		}
		return int64(v)
	case float32:
		return float64(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // out of range is infinite, which no schema permits
		return f
	}
	return v
}

// validate is what the Validate methods do: the schema, then the rules.
func validate(kind string, o Object) field.ErrorList {
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	delete(obj, "status") // the controller's own
	c := checker{errs: Check(kind, obj)}
	for _, e := range o.rules() {
		if !c.reported(e.Field) {
			c.errs = append(c.errs, e)
		}
	}
	return c.errs
}

// A checker compares values with schemas.
//
// +kubebuilder:object:generate=false
type checker struct {
	errs     field.ErrorList
	patterns map[string]*regexp.Regexp
	prune    bool // remove what has a wrong type, so that the rest can be decoded
}

// reported reports whether there is an error about what is at path, or a wrong
// type below it: a rule that fails there too would only repeat it.
func (c *checker) reported(path string) bool {
	return slices.ContainsFunc(c.errs, func(e *field.Error) bool {
		return e.Field == path || e.Type == field.ErrorTypeTypeInvalid && within(e.Field, path)
	})
}

// value checks v, which is at path. It reports whether v has the right type.
func (c *checker) value(path string, s *apiextensionsv1.JSONSchemaProps, v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" && s.Type != "" {
			return c.wrongType(path, s, v)
		}
		c.object(path, s, v)
	case []any:
		if s.Type != "array" && s.Type != "" {
			return c.wrongType(path, s, v)
		}
		c.list(path, s, v)
	case string:
		if s.Type != "string" && s.Type != "" && !s.XIntOrString {
			return c.wrongType(path, s, v)
		}
		c.str(path, s, v)
	case bool:
		if s.Type != "boolean" && s.Type != "" {
			return c.wrongType(path, s, v)
		}
	default:
		f, isNumber := number(v)
		switch {
		case isNumber && (s.XIntOrString || s.Type == "" || s.Type == "number"), isNumber && s.Type == "integer" && f == math.Trunc(f):
			c.number(path, s, v, f)
		default:
			return c.wrongType(path, s, v)
		}
	}
	return true
}

// number returns the value of a number, however it was decoded.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case int:
		return float64(v), true
	case uint64:
		return float64(v), true
	case int32:
		return float64(v), true
	}
	return 0, false
}

// wrongType reports that v has a type that s does not permit, and says how to
// write the right one.
func (c *checker) wrongType(path string, s *apiextensionsv1.JSONSchemaProps, v any) bool {
	want := map[string]string{
		"object": "an object", "array": "a list", "string": "a string", "boolean": "true or false", "integer": "a whole number", "number": "a number",
	}[s.Type]
	got := "null"
	switch v.(type) {
	case map[string]any:
		got = "an object"
	case []any:
		got = "a list"
	case string:
		got = "a string"
	case bool:
		got = "true or false"
	case nil:
	default:
		got = "a number"
	}
	hint := ""
	switch {
	case s.Type == "string" && (got == "a number" || got == "true or false"):
		hint = ": put it in quotes"
	case (s.Type == "integer" || s.Type == "number" || s.Type == "boolean") && got == "a string":
		hint = ": remove the quotes"
	case s.Type == "array" && got != "null":
		hint = ": put - in front of each item"
	}
	if got == want || s.Type == "integer" && got == "a number" {
		got = fmt.Sprint(v)
	}
	detail := fmt.Sprintf("must be %s, not %s%s", want, got, hint)
	c.errs = append(c.errs, &field.Error{Type: field.ErrorTypeTypeInvalid, Field: path, BadValue: shown(s, v), Detail: detail})
	return false
}

// shown returns v as an error may show it.
func shown(s *apiextensionsv1.JSONSchemaProps, v any) any {
	if s.Format == "password" {
		return Sensitive("x").String()
	}
	switch v.(type) {
	case map[string]any, []any:
		return field.OmitValueType{}
	}
	return v
}

// add reports that v, which is at path, breaks a rule of s.
func (c *checker) add(t field.ErrorType, path string, s *apiextensionsv1.JSONSchemaProps, v any, format string, args ...any) {
	c.errs = append(c.errs, &field.Error{Type: t, Field: path, BadValue: shown(s, v), Detail: fmt.Sprintf(format, args...)})
}

// object checks the fields of m. An absent field and one that is null are the
// same.
func (c *checker) object(path string, s *apiextensionsv1.JSONSchemaProps, m map[string]any) {
	for _, name := range s.Required {
		if p := s.Properties[name]; m[name] == nil {
			c.errs = append(c.errs, field.Required(literalPath(child(path, name)), firstSentence(p.Description)))
		}
	}
	count := int64(len(m))
	if s.MinProperties != nil && count < *s.MinProperties {
		c.add(field.ErrorTypeInvalid, path, s, m, "must have at least %s", plurals(*s.MinProperties, "entry", "entries"))
	}
	if s.MaxProperties != nil && count > *s.MaxProperties {
		c.add(field.ErrorTypeTooMany, path, s, m, "must have at most %s, has %d", plurals(*s.MaxProperties, "entry", "entries"), count)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		sub, ok := s.Properties[k]
		if !ok && values(s) != nil {
			sub, ok = *values(s), true
		}
		if !ok {
			continue
		}
		if m[k] == nil && values(s) == nil {
			if c.prune {
				delete(m, k)
			}
			continue
		}
		if right := c.value(child(path, k), &sub, m[k]); !right && c.prune {
			delete(m, k)
		}
	}
}

// list checks the items of l.
func (c *checker) list(path string, s *apiextensionsv1.JSONSchemaProps, l []any) {
	count := int64(len(l))
	if s.MinItems != nil && count < *s.MinItems {
		c.add(field.ErrorTypeInvalid, path, s, l, "must have at least %s", plurals(*s.MinItems, "item", "items"))
	}
	if s.MaxItems != nil && count > *s.MaxItems {
		c.add(field.ErrorTypeTooMany, path, s, l, "must have at most %s, has %d", plurals(*s.MaxItems, "item", "items"), count)
	}
	sub := items(s)
	if sub == nil {
		return
	}
	for i := range l {
		if right := c.value(index(path, i), sub, l[i]); !right && c.prune {
			l[i] = map[string]any{"object": map[string]any{}, "array": []any{}, "string": "", "boolean": false, "integer": int64(0), "number": 0.0}[sub.Type]
		}
	}
	keys := map[string]int{}
	for i := range l {
		item, _ := l[i].(map[string]any)
		for _, k := range s.XListMapKeys {
			v, ok := item[k].(string)
			if !ok || v == "" {
				continue
			}
			if first, twice := keys[v]; twice {
				c.add(field.ErrorTypeDuplicate, index(path, i)+"."+k, s, v, "%s has this %s already: choose another", index(path, first), k)
				continue
			}
			keys[v] = i
		}
	}
}

// str checks a string.
func (c *checker) str(path string, s *apiextensionsv1.JSONSchemaProps, v string) {
	length := int64(utf8.RuneCountInString(v))
	switch {
	case len(s.Enum) > 0 && !slices.Contains(enumValues(s), v):
		c.add(field.ErrorTypeNotSupported, path, s, v, "must be one of %s", strings.Join(enumValues(s), ", "))
	case s.MinLength != nil && length < *s.MinLength:
		if length == 0 {
			c.add(field.ErrorTypeRequired, path, s, v, "%s", cmpOr(firstSentence(s.Description), "must not be empty"))
			return
		}
		c.add(field.ErrorTypeInvalid, path, s, v, "must have at least %s", plurals(*s.MinLength, "character", "characters"))
	case s.MaxLength != nil && length > *s.MaxLength:
		c.add(field.ErrorTypeTooLong, path, s, field.OmitValueType{}, "must have at most %s, has %d", plurals(*s.MaxLength, "character", "characters"), length)
	case s.Pattern == durationPattern && !c.patterns[s.Pattern].MatchString(v):
		c.add(field.ErrorTypeInvalid, path, s, v, "must be a duration such as 500ms, 30s or 1h30m: digits and a unit of h, m, s or ms, without sign and fraction")
	case s.Pattern != "" && s.XIntOrString && !c.patterns[s.Pattern].MatchString(v):
		c.add(field.ErrorTypeInvalid, path, s, v, "must be a quantity, such as 500m, 2 or 128Mi")
	case s.Pattern != "" && !c.patterns[s.Pattern].MatchString(v):
		// Descriptions of such fields are "What it is: how it is written".
		what, form, ok := strings.Cut(firstSentence(s.Description), ": ")
		if ok {
			c.add(field.ErrorTypeInvalid, path, s, v, "must be %s", form)
			return
		}
		c.add(field.ErrorTypeInvalid, path, s, v, "is not of the right form: %s", cmpOr(lowerFirst(what), "it must match "+s.Pattern))
	}
}

// durationPattern is the pattern of [Duration].
const durationPattern = `^([0-9]{1,5}(h|m|s|ms)){1,4}$`

// number checks a number.
func (c *checker) number(path string, s *apiextensionsv1.JSONSchemaProps, v any, f float64) {
	lo, hi := math.Inf(-1), math.Inf(1)
	switch {
	case s.Format == "int32":
		lo, hi = math.MinInt32, math.MaxInt32
	case s.Type == "integer":
		lo, hi = -(1 << 53), 1<<53
	}
	if s.Minimum != nil {
		lo = max(lo, *s.Minimum)
	}
	if s.Maximum != nil {
		hi = min(hi, *s.Maximum)
	}
	switch {
	case f >= lo && f <= hi:
	case s.Minimum != nil && s.Maximum != nil:
		c.add(field.ErrorTypeInvalid, path, s, v, "must be between %v and %v", lo, hi)
	case f < lo:
		c.add(field.ErrorTypeInvalid, path, s, v, "must be at least %v", int64(lo))
	default:
		c.add(field.ErrorTypeInvalid, path, s, v, "must be at most %v", int64(hi))
	}
}

// plurals returns n and the word for n of them.
func plurals(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// cmpOr returns s, or def when s is empty.
func cmpOr(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// firstSentence returns the first sentence of a description, without line breaks.
func firstSentence(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	for i := range s {
		if s[i] == '.' && (i+1 == len(s) || s[i+1] == ' ' && i+2 < len(s) && s[i+2] >= 'A' && s[i+2] <= 'Z') {
			return s[:i]
		}
	}
	return s
}

// lowerFirst returns s with its first letter in lower case, unless the first word
// is an abbreviation.
func lowerFirst(s string) string {
	if len(s) < 2 || s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// literalPath returns a field.Path that prints as path.
func literalPath(path string) *field.Path {
	if path == "" {
		return nil
	}
	return field.NewPath(path)
}
