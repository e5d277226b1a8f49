package policy

import (
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/parser"
)

// The names of the CEL types behind the variables.
const (
	requestType  = "mcpgw.Request"
	sourceType   = "mcpgw.Source"
	backendType  = "mcpgw.Backend"
	mcpType      = "mcpgw.MCP"
	toolType     = "mcpgw.Tool"
	promptType   = "mcpgw.Prompt"
	resourceType = "mcpgw.Resource"
	basicType    = "mcpgw.BasicAuth"
	metadataType = "mcpgw.Metadata"
)

// A variable is one name at the top of the environment.
type variable struct {
	name string
	typ  *cel.Type
}

// variables lists what an expression can name.
func variables() []variable {
	return []variable{
		{"request", cel.ObjectType(requestType)},
		{"source", cel.ObjectType(sourceType)},
		{"backend", cel.ObjectType(backendType)},
		{"mcp", cel.ObjectType(mcpType)},
		{"jwt", cel.MapType(cel.StringType, cel.DynType)},
		{"apiKey", cel.MapType(cel.StringType, cel.DynType)},
		{"basicAuth", cel.ObjectType(basicType)},
		{"extauthz", cel.MapType(cel.StringType, cel.DynType)},
		{"metadata", cel.ObjectType(metadataType)},
	}
}

// A field is one attribute of an object type.
type field struct {
	name string
	typ  *cel.Type
	get  ref.FieldGetter
	set  ref.FieldTester
}

// always is the presence test of fields that are never absent.
func always(any) bool { return true }

// objects lists the fields of the object types, in the order in which messages
// name them.
func objects() map[string][]field {
	text := cel.StringType
	return map[string][]field{
		requestType: {
			{"method", text, requestMethod, always},
			{"path", text, requestPath, always},
			{"uri", text, requestURI, always},
			{"host", text, requestHost, always},
			{"scheme", text, requestScheme, always},
			{"query", cel.MapType(text, text), requestQuery, always},
			{"headers", cel.MapType(text, text), requestHeaders, always},
		},
		sourceType: {
			{"address", text, sourceAddress, hasSource},
			{"port", cel.IntType, sourcePort, hasSource},
		},
		backendType: {
			{"name", text, backendName, hasBackend},
			{"type", text, backendKind, hasBackend},
			{"protocol", text, backendProtocol, hasBackend},
		},
		mcpType: {
			{"method", text, mcpMethod, hasMethod},
			{"tool", cel.ObjectType(toolType), mcpItem(Tool), hasItem(Tool)},
			{"prompt", cel.ObjectType(promptType), mcpItem(Prompt), hasItem(Prompt)},
			{"resource", cel.ObjectType(resourceType), mcpItem(Resource), hasItem(Resource)},
		},
		toolType: {
			{"name", text, itemName, always},
			{"target", text, itemTarget, always},
			{"arguments", cel.MapType(text, cel.DynType), itemArguments, always},
		},
		promptType:   {{"name", text, itemName, always}, {"target", text, itemTarget, always}},
		resourceType: {{"name", text, itemName, always}, {"target", text, itemTarget, always}},
		basicType:    {{"username", text, basicUser, hasUser}},
		metadataType: {{"filter_metadata", cel.MapType(text, cel.MapType(text, cel.DynType)), filterMetadata, always}},
		responseType: {{"code", cel.IntType, responseCode, always}},
	}
}

// A provider adds the object types to those that CEL knows.
type provider struct {
	types.Provider
	objects map[string]map[string]*types.FieldType
	names   map[string][]string
}

func newProvider(base types.Provider) *provider {
	p := &provider{Provider: base, objects: map[string]map[string]*types.FieldType{}, names: map[string][]string{}}
	for _, objects := range []map[string][]field{objects(), messageObjects()} {
		for typ, fields := range objects {
			p.objects[typ] = make(map[string]*types.FieldType, len(fields))
			for _, f := range fields {
				p.objects[typ][f.name] = &types.FieldType{Type: f.typ, IsSet: f.set, GetFrom: f.get}
				p.names[typ] = append(p.names[typ], f.name)
			}
		}
	}
	return p
}

// FindStructType implements [types.Provider].
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements [types.Provider].
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if names, ok := p.names[name]; ok {
		return names, true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements [types.Provider].
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields, ok := p.objects[name]; ok {
		f, ok := fields[field]
		return f, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// environment returns the environment that every expression is compiled in. It is
// made once, and immutable.
var environment = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(variables()) })

func newEnvironment(variables []variable) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ClearMacros(),
		cel.Macros(macros()...),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Network(),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxNesting),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	options = append(options, functions()...)
	options = append(options, func(e *cel.Env) (*cel.Env, error) {
		return cel.CustomTypeProvider(newProvider(e.CELTypeProvider()))(e)
	})
	return cel.NewEnv(options...)
}

// macros returns the standard macros, with a has that also takes an index.
func macros() []cel.Macro {
	out := []cel.Macro{cel.GlobalMacro(operators.Has, 1, has)}
	for _, m := range cel.StandardMacros {
		if m.Function() != operators.Has {
			out = append(out, m)
		}
	}
	return out
}

// has expands has(m.f) to a presence test, as CEL defines it, and has(m[k]) to
// k in m, which CEL refuses though it can only mean that.
func has(h cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
	arg := args[0]
	if arg.Kind() == ast.CallKind {
		if call := arg.AsCall(); call.FunctionName() == operators.Index && len(call.Args()) == 2 {
			return h.NewCall(operators.In, call.Args()[1], call.Args()[0]), nil
		}
	}
	return parser.MakeHas(h, target, args)
}
