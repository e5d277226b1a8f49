package dialect

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Members calls f for each member of an object that was checked before. Of what is
// no object there are none.
func Members(object jsontext.Value, f func(name string, v jsontext.Value)) {
	if object.Kind() != '{' {
		return
	}
	_ = Each(object, func(dec *jsontext.Decoder) error { // it was checked
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		v, err := dec.ReadValue()
		if err == nil {
			f(key, v.Clone())
		}
		return err
	})
}

// Elements calls f for each element of an array that was checked before.
func Elements(array jsontext.Value, f func(i int, v jsontext.Value)) {
	if array.Kind() != '[' {
		return
	}
	i := 0
	_ = Each(array, func(dec *jsontext.Decoder) error { // it was checked
		v, err := dec.ReadValue()
		if err == nil {
			f(i, v.Clone())
		}
		i++
		return err
	})
}

// Each calls f until the object or array v ends, each time before what comes next in
// it.
func Each(v jsontext.Value, f func(*jsontext.Decoder) error) error {
	dec := jsontext.NewDecoder(strings.NewReader(string(v)))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for k := dec.PeekKind(); k != '}' && k != ']'; k = dec.PeekKind() {
		if err := f(dec); err != nil {
			return err
		}
	}
	return nil
}

// Unknown adds the members of rest, an object or nil, to the fields: what a dialect
// does not understand of what stands at path, "" at the top. Of those at the top the tables
// say which have a name of this package: each row is a member and its name.
func (r *Request) Unknown(rest jsontext.Value, path string, tables ...[][2]string) {
	Members(rest, func(name string, v jsontext.Value) {
		f := Field{Name: name, Path: name, Value: v}
		if path != "" {
			f.Name, f.Path = "", path+"."+name
		}
		for _, table := range tables {
			for _, row := range table {
				if row[0] == name {
					f.Name = row[1]
				}
			}
		}
		r.Fields = append(r.Fields, f)
	})
}

// Note adds a field of one of the names of this package.
func (r *Request) Note(name, path string, v jsontext.Value) {
	r.Fields = append(r.Fields, Field{Name: name, Path: path, Value: v})
}

// An Object is a JSON object that is being written. The zero Object is empty.
type Object struct{ buf []byte }

// Set adds a member, unless v is nil. A name is added once.
func (o *Object) Set(name string, v jsontext.Value) {
	if v == nil {
		return
	}
	if len(o.buf) == 0 {
		o.buf = append(o.buf, '{')
	} else {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(appendString(o.buf, name), ':')
	o.buf = append(o.buf, v...)
}

// SetFields adds those fields that the request of c has, and counts them as carried. Each row
// of a table is a member and the name of its field, as in [Request.Unknown].
func (o *Object) SetFields(c *Carrier, table [][2]string) {
	for _, row := range table {
		o.Set(row[0], c.Take(row[1]))
	}
}

// SetOwn adds the fields of those names, which clients of other dialects write for this provider
// alone.
func (o *Object) SetOwn(c *Carrier, names ...string) {
	for _, name := range names {
		o.Set(name, c.Take(name))
	}
}

// Value returns the object; nil when nothing was set.
func (o *Object) Value() jsontext.Value {
	if len(o.buf) == 0 {
		return nil
	}
	return append(o.buf[:len(o.buf):len(o.buf)], '}')
}

// Int returns a JSON number as an integer, 0 for everything else.
func Int(v jsontext.Value) int64 {
	if v.Kind() != '0' {
		return 0
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return 0
	}
	return int64(f)
}

// Number returns n as JSON.
func Number(n int64) jsontext.Value { return strconv.AppendInt(nil, n, 10) }

// Strings returns the strings of a JSON array of strings, or the one that v is.
func Strings(v jsontext.Value) []string {
	var list []string
	var one string
	switch v.Kind() {
	case '[':
		if json.Unmarshal(v, &list) == nil {
			return list
		}
	case '"':
		if json.Unmarshal(v, &one) == nil {
			return []string{one}
		}
	}
	return nil
}

// Concat returns the array of the elements of two arrays, each of which may be nil.
func Concat(a, b jsontext.Value) jsontext.Value {
	if len(b) <= len("[]") {
		return a
	}
	if len(a) <= len("[]") {
		return b
	}
	return slices.Concat(a[:len(a)-1], []byte{','}, b[1:])
}

// Array returns v as an array: itself when it is one, else the array of it alone.
func Array(v jsontext.Value) jsontext.Value {
	if v == nil || v.Kind() == '[' {
		return v
	}
	return jsontext.Value("[" + string(v) + "]")
}

// Invalid returns the error of a request that says something wrong at path.
func Invalid(path, message string) *Error {
	return &Error{Status: 400, Message: message, Param: path, Type: "invalid_request_error"}
}

// Misread returns the error of a request that could not be decoded.
func Misread(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	path := ""
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		for token := range semantic.JSONPointer.Tokens() {
			if _, err := strconv.Atoi(token); err == nil {
				path += "[" + token + "]"
				continue
			}
			if path != "" {
				path += "."
			}
			path += token
		}
	}
	if path == "" {
		return Invalid("", "the request can't be read: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return Invalid(path, path+" is not what this API has there")
}
