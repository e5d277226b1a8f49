package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/mcpgw/mcpgw/extension"
)

// A Subject is what the entries of a descriptor look at.
type Subject struct {
	Request   *Request
	Backend   string    // namespace/name; "" while it is not chosen
	Operation Operation // the zero Operation while it is not known
}

// A Stage says what an entry has to know.
type Stage uint8

// The stages of a request, in their order.
const (
	AtRequest   Stage = iota // the request
	AtBackend                // the backend that it goes to
	AtOperation              // one operation of it
)

// An Entry is a part of a descriptor.
type Entry struct {
	// Key names the entry to a service that counts.
	Key string
	// Stage says when the value is known.
	Stage Stage
	// Optional leaves out the entry that has no value, and not the descriptor.
	Optional bool
	// Value returns the value of the entry; ok is false when there is none.
	Value func(s *Subject) (value string, ok bool)
}

// Named returns the entry under a key, which names it to a service that counts.
func (e Entry) Named(key string) Entry {
	e.Key = key
	return e
}

// A Descriptor tells apart what is counted apart: by the values of its entries, all of which there
// have to be.
type Descriptor []Entry

// Stage returns when all of its values are known.
func (d Descriptor) Stage() Stage {
	stage := AtRequest
	for _, a := range d {
		stage = max(stage, a.Stage)
	}
	return stage
}

// maxKey bounds the key of a descriptor.
const maxKey = 128

// key returns the key of a subject under name; ok is false when it has no such descriptor. Different values
// have different keys.
func (d Descriptor) key(name string, s *Subject) (key string, ok bool) {
	buf := make([]byte, 0, 2*maxKey)
	for _, a := range d {
		v, ok := a.Value(s)
		switch {
		case ok:
			buf = append(binary.AppendUvarint(buf, uint64(len(v))+1), v...)
		case a.Optional:
			buf = append(buf, 0)
		default:
			return "", false
		}
	}
	if len(buf) > maxKey {
		sum := sha256.Sum256(buf)
		buf = sum[:]
	}
	return name + string(buf), true
}

// entries returns what the descriptor is for a subject; ok is false when it has no such descriptor.
func (d Descriptor) entries(s *Subject) (out extension.Descriptor, ok bool) {
	for _, a := range d {
		v, ok := a.Value(s)
		if ok {
			out = append(out, extension.Entry{Key: a.Key, Value: v})
		} else if !a.Optional {
			return nil, false
		}
	}
	return out, len(out) > 0
}

// Fixed is the entry of a value that is always the same.
func Fixed(value string) Entry {
	return Entry{Value: func(*Subject) (string, bool) { return value, true }}
}

// FromHeader is the entry of a header's value. Of a header that stands more than once the values are
// joined.
func FromHeader(name string) Entry {
	name = http.CanonicalHeaderKey(name)
	return Entry{Value: func(s *Subject) (string, bool) {
		switch v := headerValues(s.Request.HTTP, name); len(v) {
		case 0:
			return "", false
		case 1:
			return v[0], true
		default:
			return strings.Join(v, ","), true
		}
	}}
}

// headerValues returns the values of a header, which net/http keeps elsewhere if it is Host.
func headerValues(r *http.Request, name string) []string {
	if name == "Host" && r.Host != "" {
		return []string{r.Host}
	}
	return r.Header[name]
}

// A HeaderTest asks for one header.
type HeaderTest struct {
	Name   string
	Test   func(value string) bool // nil: that it is there
	Invert bool
}

// IfHeaders is the entry of a fixed value, which there is if the headers answer the tests as expected: all of them, or
// not all.
func IfHeaders(value string, expect bool, tests []HeaderTest) Entry {
	return Entry{Value: func(s *Subject) (string, bool) {
		all := true
		for _, t := range tests {
			v := headerValues(s.Request.HTTP, http.CanonicalHeaderKey(t.Name))
			met := len(v) > 0 && (t.Test == nil || t.Test(strings.Join(v, ",")))
			all = all && met != t.Invert
		}
		return value, all == expect
	}}
}

// FromAddress is the entry of the client's address.
func FromAddress() Entry {
	return Entry{Value: func(s *Subject) (string, bool) {
		if !s.Request.Source.IsValid() {
			return "", false
		}
		return s.Request.Source.Addr().String(), true
	}}
}

// FromPath is the entry of the path, without query.
func FromPath() Entry {
	return Entry{Value: func(s *Subject) (string, bool) { return s.Request.HTTP.URL.Path, true }}
}

// FromGateway is the entry of the name of the Gateway.
func FromGateway() Entry {
	return Entry{Value: func(s *Subject) (string, bool) { return s.Request.Gateway, s.Request.Gateway != "" }}
}

// FromBackend is the entry of the name of the backend.
func FromBackend() Entry {
	return Entry{Stage: AtBackend, Value: func(s *Subject) (string, bool) { return s.Backend, s.Backend != "" }}
}

// FromJWT is the entry of a claim, to which path leads; def when there is none and it is not empty.
func FromJWT(path []string, def string) Entry {
	return fromClaims(func(r *Request) *Claims { return r.JWT }, path, def)
}

// FromAPIKey is the entry of what is known of an API key: id, or a member of its metadata.
func FromAPIKey(path []string, def string) Entry {
	return fromClaims(func(r *Request) *Claims { return r.APIKey }, path, def)
}

// FromMetadata is the entry of what services tell of the request in a namespace.
func FromMetadata(namespace string, path []string, def string) Entry {
	return fromMembers(func(r *Request) traits.Mapper { return membersOf(r.Metadata, namespace) }, path, def)
}

func fromClaims(claims func(*Request) *Claims, path []string, def string) Entry {
	return fromMembers(func(r *Request) traits.Mapper { return claims(r).values() }, path, def)
}

func fromMembers(members func(*Request) traits.Mapper, path []string, def string) Entry {
	return Entry{Value: func(s *Subject) (string, bool) {
		if v, ok := textAt(members(s.Request), path); ok {
			return v, true
		}
		return def, def != ""
	}}
}

// textAt returns the text, number or truth value to which path leads.
func textAt(v ref.Val, path []string) (value string, ok bool) {
	v, ok = lead(v, path)
	if !ok {
		return "", false
	}
	return scalar(v)
}

// FromMCP is the entry of what mcp.* says of an operation: method, or name or target of a tool, a prompt
// or a resource. It returns false if path leads to nothing of it.
func FromMCP(path []string, def string) (e Entry, ok bool) {
	e.Stage = AtOperation
	of := func(value func(op *Operation) string) func(s *Subject) (string, bool) {
		return func(s *Subject) (string, bool) {
			if v := value(&s.Operation); v != "" {
				return v, true
			}
			return def, def != ""
		}
	}
	if len(path) == 1 && path[0] == "method" {
		e.Value = of(func(op *Operation) string { return op.Method })
		return e, true
	}
	if len(path) != 2 {
		return e, false
	}
	kind, known := map[string]Kind{"tool": Tool, "prompt": Prompt, "resource": Resource}[path[0]]
	var part func(op *Operation) string
	switch path[1] {
	case "name":
		part = func(op *Operation) string { return op.Name }
	case "target":
		part = func(op *Operation) string { return op.Target }
	default:
		return e, false
	}
	e.Value = of(func(op *Operation) string {
		if op.Kind != kind {
			return ""
		}
		return part(op)
	})
	return e, known
}
