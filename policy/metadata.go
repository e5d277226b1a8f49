package policy

import (
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/mcpgw/mcpgw/telemetry"
)

// The namespaces of what services tell of requests, as Envoy has them. An external processor names its own.
const (
	ExtAuthNamespace   = "envoy.filters.http.ext_authz"
	RateLimitNamespace = "envoy.filters.http.ratelimit"
)

// metadataValues shows metadata to CEL: what is whole is an int.
type metadataValues struct{ types.Adapter }

// NativeToValue implements [types.Adapter].
func (a metadataValues) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case float64:
		if i := int64(v); float64(i) == v && -1<<53 < i && i < 1<<53 {
			return types.Int(i)
		}
	case []any:
		return types.NewDynamicList(a, v)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	}
	return a.Adapter.NativeToValue(v)
}

// membersOf returns the members of a namespace.
func membersOf(m *telemetry.Metadata, namespace string) traits.Mapper {
	return types.NewStringInterfaceMap(metadataValues{types.DefaultTypeAdapter}, m.All()[namespace])
}

func filterMetadata(o any) (any, error) {
	s, ok := o.(*metadataObject)
	if !ok {
		return nil, errType
	}
	all := map[string]any{}
	for namespace, members := range s.request.Metadata.All() {
		all[namespace] = members
	}
	return types.NewStringInterfaceMap(metadataValues{types.DefaultTypeAdapter}, all), nil
}
