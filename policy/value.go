package policy

import (
	"context"
	"reflect"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/types/known/structpb"
)

// A Value is a compiled CEL expression about a request that has ended: of any type, and over the variable response
// beside those of an [Expression]. It is immutable and safe for concurrent use.
type Value struct{ program cel.Program }

// A Logged is what a [Value] sees.
type Logged struct {
	Request   *Request
	Backend   *BackendInfo // nil before one is chosen
	Operation *Operation   // nil for what is no operation
	Status    int          // that was sent, 0 for none
}

// responseType is the CEL type of response.
const responseType = "mcpgw.Response"

// responseObject is the scope as the variable response has it.
type responseObject scope

func responseCode(o any) (any, error) {
	r, ok := o.(*responseObject)
	if !ok {
		return nil, errType
	}
	return types.Int(r.status), nil
}

// logEnvironment is the environment of what is evaluated once a request has ended.
var logEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	return env.Extend(cel.Variable("response", cel.ObjectType(responseType)))
})

// CompileValue compiles source. condition demands a bool. Its error is an *[ExpressionError].
func CompileValue(source string, condition bool) (*Value, error) {
	kind := analyseParts
	if condition {
		kind = analyse
	}
	env, checked, _, err := check(source, logEnvironment, kind)
	if err != nil {
		return nil, err
	}
	p, err := program(env, checked)
	if err != nil {
		return nil, err
	}
	return &Value{p}, nil
}

// Of returns what the expression comes to, as encoding/json would decode it. ok is false where it comes to nothing: what it
// asks for is not there, or it took too long.
func (v *Value) Of(ctx context.Context, l Logged) (value any, ok bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), evalTimeout)
	defer cancel()
	s := newScope(l.Request, l.Backend, l.Operation)
	s.status = l.Status
	out, _, err := v.program.ContextEval(ctx, s)
	if err != nil {
		return nil, false
	}
	native, err := out.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, false
	}
	p, ok := native.(*structpb.Value)
	if !ok {
		return nil, false
	}
	return p.AsInterface(), true
}
