package policy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// A Template is a compiled CEL expression whose value is put into a request or an answer. Beside the variables of an
// [Expression] but mcp it has request.body and, for answers, response. It is immutable and safe for concurrent use.
type Template struct {
	program  cel.Program
	request  bool // it speaks of the body of the request
	response bool // and of that of the answer
}

// A Message is what a [Template] is evaluated for. It belongs to one goroutine.
type Message struct {
	// Request is as it is now, where what was accepted has been changed. Its context is that of an admitted request.
	Request *http.Request
	// Body is that of the request; a Template that speaks of it fails while it is nil.
	Body []byte
	// Backend is where the request goes; it may be nil.
	Backend *BackendInfo
	// Status and Header are those of the answer, AnswerBody is as Body. Request templates see none.
	Status     int
	Header     http.Header
	AnswerBody []byte
}

// The CEL types behind the variables of a Template.
const (
	messageType = "mcpgw.Message"
	answerType  = "mcpgw.Answer"
)

// A messageScope is the part of a scope that only a Template sees.
type messageScope struct {
	header       headerMap // of the answer
	body, answer ref.Val   // nil where they were not read
}

func messageBody(o any) (any, error) {
	r, ok := o.(*requestObject)
	if !ok {
		return nil, errType
	}
	return there(r.message.body)
}

func answerBody(o any) (any, error) {
	r, ok := o.(*responseObject)
	if !ok {
		return nil, errType
	}
	return there(r.message.answer)
}

func there(v ref.Val) (any, error) {
	if v == nil {
		return nil, errUnread
	}
	return v, nil
}

func answerHeaders(o any) (any, error) {
	r, ok := o.(*responseObject)
	if !ok {
		return nil, errType
	}
	return &r.message.header, nil
}

var (
	errUnread   = errors.New("the body is not there: it is a stream, or not text")
	errNotText  = errors.New("the body is not UTF-8")
	errNotValue = errors.New("a header is a string, a number or a bool")
	errNotJSON  = errors.New("the value is nothing that JSON has")
)

// messageObjects lists the fields of the object types that only templates have.
func messageObjects() map[string][]field {
	return map[string][]field{
		messageType: append(slices.Clone(objects()[requestType]), field{"body", cel.DynType, messageBody, always}),
		answerType: {
			{"code", cel.IntType, responseCode, always},
			{"headers", cel.MapType(cel.StringType, cel.StringType), answerHeaders, always},
			{"body", cel.DynType, answerBody, always},
		},
	}
}

var (
	requestTemplates = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(messageVariables()) })
	answerTemplates  = sync.OnceValues(func() (*cel.Env, error) {
		return newEnvironment(append(messageVariables(), variable{"response", cel.ObjectType(answerType)}))
	})
)

// messageVariables lists what a template for a request can name.
func messageVariables() (out []variable) {
	for _, v := range variables() {
		switch v.name {
		case "mcp":
			continue
		case "request":
			v.typ = cel.ObjectType(messageType)
		}
		out = append(out, v)
	}
	return out
}

// CompileRequestTemplate compiles an expression whose value is put into a request. Its error is an *[ExpressionError].
func CompileRequestTemplate(source string) (*Template, error) {
	return compileTemplate(source, requestTemplates)
}

// CompileAnswerTemplate is [CompileRequestTemplate] for answers.
func CompileAnswerTemplate(source string) (*Template, error) {
	return compileTemplate(source, answerTemplates)
}

func compileTemplate(source string, environment func() (*cel.Env, error)) (*Template, error) {
	env, checked, _, err := check(source, environment, analyseParts)
	if err != nil {
		return nil, err
	}
	t := new(Template)
	t.request, t.response = bodiesOf(checked.NativeRep())
	if t.program, err = program(env, checked); err != nil {
		return nil, err
	}
	return t, nil
}

// bodiesOf returns of which bodies an expression speaks.
func bodiesOf(a *ast.AST) (request, response bool) {
	note := func(operand ast.Expr, field string) {
		if field == "body" {
			switch a.GetType(operand.ID()).TypeName() {
			case messageType:
				request = true
			case answerType:
				response = true
			}
		}
	}
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			note(e.AsSelect().Operand(), e.AsSelect().FieldName())
		case ast.CallKind:
			if call := e.AsCall(); call.FunctionName() == operators.OptSelect {
				name, _ := stringLiteral(call.Args()[1])
				note(call.Args()[0], name)
			}
		}
	}))
	return request, response
}

// SpeaksOfBody reports whether the template has to have the body of the request, and that of the answer.
func (t *Template) SpeaksOfBody() (request, response bool) { return t.request, t.response }

// Text returns the value for a header. ok is false for null, which is no header.
func (t *Template) Text(ctx context.Context, m *Message) (text string, ok bool, err error) {
	v, err := t.evaluate(ctx, m, false)
	if err != nil {
		return "", false, err
	}
	switch v := v.(type) {
	case types.Null:
		return "", false, nil
	case types.String:
		return string(v), true, nil
	case types.Bytes:
		return string(v), true, nil
	case types.Bool:
		return strconv.FormatBool(bool(v)), true, nil
	case types.Int:
		return strconv.FormatInt(int64(v), 10), true, nil
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10), true, nil
	case types.Double:
		return strconv.FormatFloat(float64(v), 'g', -1, 64), true, nil
	default:
		return "", false, errNotValue
	}
}

// Whole returns the value for a body: a string or bytes as they are, all else as JSON. With parsed the bodies that the
// template sees are JSON values, else strings.
func (t *Template) Whole(ctx context.Context, m *Message, parsed bool) ([]byte, error) {
	v, err := t.evaluate(ctx, m, parsed)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case types.String:
		return []byte(v), nil
	case types.Bytes:
		return []byte(v), nil
	default:
		return appendJSON(nil, v, 0)
	}
}

// evaluate returns what the expression comes to.
func (t *Template) evaluate(ctx context.Context, m *Message, parsed bool) (ref.Val, error) {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil {
		return nil, errAbsent
	}
	r := *a.request
	r.HTTP = m.Request
	s := newScope(&r, m.Backend, nil)
	s.status = m.Status
	s.message = &messageScope{header: headerMap{r: &http.Request{Header: m.Header}}}
	var err error
	if t.request {
		if s.message.body, err = bodyOf(m.Body, parsed); err != nil {
			return nil, err
		}
	}
	if t.response {
		if s.message.answer, err = bodyOf(m.AnswerBody, parsed); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, evalTimeout)
	defer cancel()
	v, _, err := t.program.ContextEval(ctx, s)
	return v, err
}

// bodyOf returns a body as a template sees it; nil where it was not read.
func bodyOf(body []byte, parsed bool) (ref.Val, error) {
	switch {
	case body == nil:
		return nil, errUnread
	case parsed:
		return decodeJSON(body)
	case !utf8.Valid(body):
		return nil, errNotText
	default:
		return types.String(body), nil
	}
}

// maxTemplated bounds the JSON that a template makes.
const maxTemplated = 4 << 20

var errTemplated = fmt.Errorf("the value is over the limit of %d bytes of JSON", maxTemplated)

// appendJSON appends v as JSON, maps by their keys in order.
func appendJSON(b []byte, v ref.Val, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	if len(b) > maxTemplated {
		return nil, errTemplated
	}
	switch v := v.(type) {
	case types.Null:
		return append(b, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(b, bool(v)), nil
	case types.Int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case types.Double:
		if math.IsInf(float64(v), 0) || math.IsNaN(float64(v)) {
			return nil, errNotJSON
		}
		return strconv.AppendFloat(b, float64(v), 'g', -1, 64), nil
	case types.String:
		return jsontext.AppendQuote(b, string(v))
	case types.Bytes:
		return jsontext.AppendQuote(b, base64.StdEncoding.EncodeToString(v))
	case traits.Mapper:
		return appendMap(b, v, depth)
	case traits.Lister:
		b = append(b, '[')
		var err error
		for i, it := 0, v.Iterator(); it.HasNext() == types.True; i++ {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, it.Next(), depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	default:
		return nil, errNotJSON
	}
}

func appendMap(b []byte, m traits.Mapper, depth int) ([]byte, error) {
	var keys []string
	for it := m.Iterator(); it.HasNext() == types.True; {
		k, ok := it.Next().(types.String)
		if !ok {
			return nil, errNotJSON
		}
		keys = append(keys, string(k))
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = jsontext.AppendQuote(b, k); err != nil {
			return nil, err
		}
		if b, err = appendJSON(append(b, ':'), m.Get(types.String(k)), depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}
