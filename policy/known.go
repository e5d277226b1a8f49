package policy

import (
	"encoding/json"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
)

// JWTNamespace is where Envoy keeps the claims of a verified token, under jwt_payload.
const JWTNamespace = "envoy.filters.http.jwt_authn"

// Known returns what is known of the request under a namespace of dynamic metadata, where path leads, member by member: what
// authentication established (jwt, also as [JWTNamespace] with jwt_payload; apiKey) and what services tell of it, each in its
// namespace (extauthz is also [ExtAuthNamespace]). Objects and lists are JSON. ok is false where there is nothing.
func (req *Request) Known(namespace string, path ...string) (text string, ok bool) {
	of := membersOf(req.Metadata, namespace)
	switch namespace {
	case "jwt":
		of = req.JWT.values()
	case JWTNamespace:
		if len(path) == 0 || path[0] != "jwt_payload" {
			return "", false
		}
		of, path = req.JWT.values(), path[1:]
	case "apiKey":
		of = req.APIKey.values()
	case "extauthz":
		of = membersOf(req.Metadata, ExtAuthNamespace)
	}
	v, ok := lead(of, path)
	if !ok {
		return "", false
	}
	if text, ok = scalar(v); ok {
		return text, true
	}
	if _, null := v.(types.Null); null {
		return "", false
	}
	native, err := v.ConvertToNative(jsonType)
	if err != nil {
		return "", false
	}
	b, err := json.Marshal(native.(*structpb.Value).AsInterface())
	return string(b), err == nil
}

var jsonType = reflect.TypeFor[*structpb.Value]()

// lead returns the member of v to which path leads.
func lead(v ref.Val, path []string) (_ ref.Val, ok bool) {
	for _, name := range path {
		m, isMap := v.(traits.Mapper)
		if !isMap {
			return nil, false
		}
		if v, ok = m.Find(types.String(name)); !ok {
			return nil, false
		}
	}
	return v, len(path) > 0
}

// scalar returns a text, number or truth value as text.
func scalar(v ref.Val) (text string, ok bool) {
	switch v.(type) {
	case types.String, types.Int, types.Uint, types.Double, types.Bool:
		s, ok := v.ConvertToType(types.StringType).(types.String)
		return string(s), ok
	}
	return "", false
}
