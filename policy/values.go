package policy

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// errAbsent is what an attribute is that the request or operation does not have,
// such as the tool of a prompt. An expression that meets it does not match.
var errAbsent = errors.New("no such attribute here")

var errType = errors.New("no such object")

// unknown is the value of what is not known: everything is possible.
var unknown = types.NewUnknown(1, types.NewAttributeTrail("mcp"))

// A scope is what one evaluation sees: the variables of CEL. It belongs to one
// goroutine.
type scope struct {
	request *Request
	backend *BackendInfo
	item    item
	method  string
	kind    Kind
	// open makes what the operation does not have unknown, in place of an error.
	open    bool
	status  int           // of the answer, for response
	message *messageScope // nil but for a Template
	headers headerMap
}

// An item is the tool, prompt or resource of an operation.
type item struct {
	name, target string
	raw          []byte  // arguments as JSON; nil while they are not known
	arguments    ref.Val // raw decoded, once it was asked for
}

var _ cel.Activation = (*scope)(nil)

func newScope(req *Request, backend *BackendInfo, op *Operation) *scope {
	s := &scope{request: req, backend: backend, headers: headerMap{r: req.HTTP}}
	if op == nil {
		return s
	}
	s.method, s.kind = op.Method, op.Kind
	if op.Kind != 0 {
		s.item = item{name: op.Name, target: op.Target, raw: op.Arguments}
	}
	return s
}

// The objects behind the variables are the scope itself, under a type a variable.
type (
	requestObject scope
	sourceObject  scope
	backendObject scope
	mcpObject     scope
	basicObject   scope

	metadataObject scope
)

// ResolveName implements [cel.Activation].
func (s *scope) ResolveName(name string) (any, bool) {
	switch name {
	case "request":
		return (*requestObject)(s), true
	case "source":
		return (*sourceObject)(s), true
	case "backend":
		return (*backendObject)(s), true
	case "mcp":
		return (*mcpObject)(s), true
	case "response":
		return (*responseObject)(s), true
	case "jwt":
		return s.request.JWT.values(), true
	case "apiKey":
		return s.request.APIKey.values(), true
	case "basicAuth":
		return (*basicObject)(s), true
	case "extauthz":
		return membersOf(s.request.Metadata, ExtAuthNamespace), true
	case "metadata":
		return (*metadataObject)(s), true
	}
	return nil, false
}

// Parent implements [cel.Activation].
func (s *scope) Parent() cel.Activation { return nil }

func requestMethod(o any) (any, error) {
	return requestText(o, func(r *Request) string { return r.HTTP.Method })
}

func requestPath(o any) (any, error) {
	return requestText(o, func(r *Request) string { return r.HTTP.URL.Path })
}

func requestHost(o any) (any, error) {
	return requestText(o, func(r *Request) string { return r.Host })
}

func requestScheme(o any) (any, error) {
	return requestText(o, func(r *Request) string { return r.Scheme })
}

func requestURI(o any) (any, error) {
	return requestText(o, func(r *Request) string {
		return r.Scheme + "://" + r.HTTP.Host + r.HTTP.URL.RequestURI()
	})
}

func requestText(o any, get func(*Request) string) (any, error) {
	r, ok := o.(*requestObject)
	if !ok {
		return nil, errType
	}
	return types.String(get(r.request)), nil
}

func requestHeaders(o any) (any, error) {
	r, ok := o.(*requestObject)
	if !ok {
		return nil, errType
	}
	return &r.headers, nil
}

// requestQuery returns the first value of each parameter. A query that is malformed
// is an error: what it would be read as depends on the reader.
func requestQuery(o any) (any, error) {
	r, ok := o.(*requestObject)
	if !ok {
		return nil, errType
	}
	values, err := url.ParseQuery(r.request.HTTP.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	first := make(map[string]string, len(values))
	for name, v := range values {
		first[name] = v[0]
	}
	return first, nil
}

func hasSource(o any) bool {
	s, ok := o.(*sourceObject)
	return ok && s.request.Source.IsValid()
}

func sourceAddress(o any) (any, error) {
	if !hasSource(o) {
		return nil, errAbsent
	}
	return types.String(o.(*sourceObject).request.Source.Addr().Unmap().WithZone("").String()), nil
}

func sourcePort(o any) (any, error) {
	if !hasSource(o) {
		return nil, errAbsent
	}
	return types.Int(o.(*sourceObject).request.Source.Port()), nil
}

func hasUser(o any) bool {
	b, ok := o.(*basicObject)
	return ok && b.request.User != ""
}

func basicUser(o any) (any, error) {
	if !hasUser(o) {
		return nil, errAbsent
	}
	return types.String(o.(*basicObject).request.User), nil
}

func hasBackend(o any) bool {
	b, ok := o.(*backendObject)
	return ok && b.backend != nil
}

func backendName(o any) (any, error) {
	return backendText(o, func(b *BackendInfo) string { return b.Name })
}

func backendKind(o any) (any, error) {
	return backendText(o, func(b *BackendInfo) string { return b.Type })
}

func backendProtocol(o any) (any, error) {
	return backendText(o, func(b *BackendInfo) string { return b.Protocol })
}

func backendText(o any, get func(*BackendInfo) string) (any, error) {
	if !hasBackend(o) {
		return nil, errAbsent
	}
	return types.String(get(o.(*backendObject).backend)), nil
}

func hasMethod(o any) bool {
	m, ok := o.(*mcpObject)
	return ok && m.method != ""
}

func mcpMethod(o any) (any, error) {
	m, ok := o.(*mcpObject)
	switch {
	case !ok:
		return nil, errType
	case m.method != "":
		return types.String(m.method), nil
	case m.open:
		return unknown, nil
	}
	return nil, errAbsent
}

func hasItem(kind Kind) ref.FieldTester {
	return func(o any) bool {
		m, ok := o.(*mcpObject)
		return ok && m.kind == kind
	}
}

func mcpItem(kind Kind) ref.FieldGetter {
	return func(o any) (any, error) {
		m, ok := o.(*mcpObject)
		switch {
		case !ok:
			return nil, errType
		case m.kind == kind:
			return &m.item, nil
		case m.open:
			return unknown, nil
		}
		return nil, errAbsent
	}
}

func itemName(o any) (any, error) {
	return itemField(o, func(i *item) string { return i.name })
}

func itemTarget(o any) (any, error) {
	return itemField(o, func(i *item) string { return i.target })
}

func itemField(o any, get func(*item) string) (any, error) {
	switch i := o.(type) {
	case *item:
		return types.String(get(i)), nil
	case *types.Unknown:
		return i, nil
	}
	return nil, errType
}

// itemArguments decodes the arguments when they are first asked for.
func itemArguments(o any) (any, error) {
	if o == unknown {
		return unknown, nil
	}
	i, ok := o.(*item)
	switch {
	case !ok:
		return nil, errType
	case i.arguments != nil:
		return i.arguments, nil
	case i.raw == nil:
		return unknown, nil
	}
	v, err := decodeObject(i.raw)
	if err != nil {
		return nil, err
	}
	i.arguments = v
	return v, nil
}

// A headerMap shows the headers of a request as a CEL map: the keys fold case, and
// the values of a repeated header are joined with commas (RFC 9110 section 5.3).
type headerMap struct {
	r     *http.Request
	whole traits.Mapper // the headers as an ordinary map, once it was asked for
}

var _ traits.Mapper = (*headerMap)(nil)

func (m *headerMap) lookup(key ref.Val) (string, bool) {
	name, ok := key.(types.String)
	if !ok {
		return "", false
	}
	return m.value(http.CanonicalHeaderKey(string(name)))
}

// value returns a header by its canonical name.
func (m *headerMap) value(canonical string) (string, bool) {
	if canonical == "Host" { // net/http keeps it apart from the others
		return m.r.Host, m.r.Host != ""
	}
	values, ok := m.r.Header[canonical]
	if !ok || len(values) == 0 {
		return "", false
	}
	if len(values) == 1 {
		return values[0], true
	}
	return strings.Join(values, ","), true
}

// Find implements [traits.Mapper].
func (m *headerMap) Find(key ref.Val) (ref.Val, bool) {
	if types.IsUnknownOrError(key) {
		return key, false
	}
	v, ok := m.lookup(key)
	if !ok {
		return nil, false
	}
	return types.String(v), true
}

// Get implements [traits.Indexer].
func (m *headerMap) Get(key ref.Val) ref.Val {
	if v, ok := m.Find(key); ok || v != nil {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains implements [traits.Container].
func (m *headerMap) Contains(key ref.Val) ref.Val {
	if types.IsUnknownOrError(key) {
		return key
	}
	_, ok := m.lookup(key)
	return types.Bool(ok)
}

// plain returns the headers as an ordinary map with lower-case keys.
func (m *headerMap) plain() traits.Mapper {
	if m.whole != nil {
		return m.whole
	}
	out := make(map[string]string, len(m.r.Header)+1)
	for name, values := range m.r.Header {
		if len(values) > 0 {
			out[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	if m.r.Host != "" {
		out["host"] = m.r.Host
	}
	m.whole = types.NewStringStringMap(types.DefaultTypeAdapter, out)
	return m.whole
}

// Iterator implements [traits.Iterable]: it goes over the lower-case keys.
func (m *headerMap) Iterator() traits.Iterator { return m.plain().Iterator() }

// Size implements [traits.Sizer].
func (m *headerMap) Size() ref.Val { return m.plain().Size() }

// ConvertToNative implements [ref.Val].
func (m *headerMap) ConvertToNative(t reflect.Type) (any, error) { return m.plain().ConvertToNative(t) }

// ConvertToType implements [ref.Val].
func (m *headerMap) ConvertToType(t ref.Type) ref.Val { return m.plain().ConvertToType(t) }

// Equal implements [ref.Val].
func (m *headerMap) Equal(other ref.Val) ref.Val {
	if o, ok := other.(*headerMap); ok {
		other = o.plain()
	}
	return m.plain().Equal(other)
}

// Type implements [ref.Val].
func (m *headerMap) Type() ref.Type { return types.MapType }

// Value implements [ref.Val].
func (m *headerMap) Value() any { return m.plain().Value() }
