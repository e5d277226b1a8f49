package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
)

// Limits on the [Metadata] of a request.
const (
	maxMetadata      = 64 << 10 // bytes of names and texts, and 8 for each value
	maxMetadataDepth = 32       // levels of nesting
)

var (
	errMetadataSize  = fmt.Errorf("services tell more than %d bytes of metadata of the request", maxMetadata)
	errMetadataDepth = fmt.Errorf("the metadata is nested deeper than %d", maxMetadataDepth)
	errMetadataValue = errors.New("the metadata holds what JSON does not have")
)

// Metadata is what external services tell of a request, Envoy's dynamic metadata: for each namespace the members of a JSON
// object. It is safe for concurrent use. A nil Metadata has nothing.
type Metadata struct {
	mu  sync.Mutex
	all map[string]map[string]any // replaced, and never changed
}

// Add adds members to those of a namespace, in place of those of the same names. They are JSON as encoding/json decodes it
// into an any, and are not changed afterwards. An error says that there is more than is kept of one request, or that there is a
// value that JSON does not have; then nothing is added.
func (m *Metadata) Add(namespace string, members map[string]any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(members) == 0 {
		return nil
	}
	of := maps.Clone(m.all[namespace])
	if of == nil {
		of = make(map[string]any, len(members))
	}
	maps.Copy(of, members)
	all := maps.Clone(m.all)
	if all == nil {
		all = map[string]map[string]any{}
	}
	all[namespace] = of
	size := 0
	for name, members := range all {
		size += len(name)
		if err := measure(members, 1, &size); err != nil {
			return err
		}
	}
	m.all = all
	return nil
}

// measure adds the size of a value, which is at a level of nesting.
func measure(v any, level int, size *int) error {
	*size += 8
	if level > maxMetadataDepth {
		return errMetadataDepth
	}
	switch v := v.(type) {
	case nil, bool:
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return errMetadataValue
		}
	case string:
		*size += len(v)
	case []any:
		for _, item := range v {
			if err := measure(item, level+1, size); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, member := range v {
			*size += len(name)
			if err := measure(member, level+1, size); err != nil {
				return err
			}
		}
	default:
		return errMetadataValue
	}
	if *size > maxMetadata {
		return errMetadataSize
	}
	return nil
}

// All returns the members of all namespaces, which are not to be changed.
func (m *Metadata) All() map[string]map[string]any {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all
}

// Find returns the value in a namespace to which path leads, member by member: nil, a bool, float64, string, []any or
// map[string]any, which is not to be changed. An empty path leads to all members. ok is false where there is none.
func (m *Metadata) Find(namespace string, path ...string) (value any, ok bool) {
	members, ok := m.All()[namespace]
	value = members
	for _, name := range path {
		of, _ := value.(map[string]any)
		if value, ok = of[name]; !ok {
			return nil, false
		}
	}
	return value, ok
}
