package policy

import (
	"errors"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// Claims are what is known of a client: the members of a JSON object, as jwt.* and apiKey.*
// show them to rules. They are immutable and safe for concurrent use. Nil Claims have no members.
type Claims struct {
	object traits.Mapper
	raw    []byte
}

// NewClaims returns the members of a JSON object. It is read strictly, so that no other reader
// can see something else in it: a duplicate name, invalid UTF-8, data after the object and what
// is over the limits of a rule is an error.
func NewClaims(object []byte) (*Claims, error) {
	v, err := decodeObject(object)
	if err != nil {
		return nil, err
	}
	m, ok := v.(traits.Mapper)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return &Claims{object: m, raw: object}, nil
}

// JSON returns the members as they were read, a JSON object; nil for nil Claims. It is not to be changed.
func (c *Claims) JSON() []byte {
	if c == nil {
		return nil
	}
	return c.raw
}

// Text returns the member of that name if it is a string; else ok is false.
func (c *Claims) Text(name string) (value string, ok bool) {
	v, ok := c.find(name)
	if !ok {
		return "", false
	}
	s, ok := v.(types.String)
	return string(s), ok
}

// Number returns the member of that name if it is a number; else ok is false. Fractions are cut off.
func (c *Claims) Number(name string) (value int64, ok bool) {
	v, ok := c.find(name)
	if !ok {
		return 0, false
	}
	switch n := v.(type) {
	case types.Int:
		return int64(n), true
	case types.Double:
		if n > -1<<53 && n < 1<<53 {
			return int64(n), true
		}
	}
	return 0, false
}

// Texts returns the member of that name if it is a string or a list of strings; else ok is false.
func (c *Claims) Texts(name string) (values []string, ok bool) {
	v, ok := c.find(name)
	if !ok {
		return nil, false
	}
	if s, ok := v.(types.String); ok {
		return []string{string(s)}, true
	}
	l, ok := v.(traits.Lister)
	if !ok {
		return nil, false
	}
	for it := l.Iterator(); it.HasNext() == types.True; {
		s, ok := it.Next().(types.String)
		if !ok {
			return nil, false
		}
		values = append(values, string(s))
	}
	return values, true
}

// Has reports whether there is a member of that name.
func (c *Claims) Has(name string) bool {
	_, ok := c.find(name)
	return ok
}

func (c *Claims) find(name string) (ref.Val, bool) { return c.values().Find(types.String(name)) }

// noClaims is what is known of a client that nothing authenticated.
var noClaims = types.NewRefValMap(types.DefaultTypeAdapter, nil)

func (c *Claims) values() traits.Mapper {
	if c == nil {
		return noClaims
	}
	return c.object
}
