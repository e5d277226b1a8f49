package v1alpha1

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// A Rename says that what stands at To in a normalised object was written at
// From. Paths are like spec.mcp.targets[0].static; keys of maps are fields.
//
// +kubebuilder:object:generate=false
type Rename struct {
	From string
	To   string
}

// A Conflict is something written that can't be brought to one spelling, such as
// a field that is there under two names with two values.
//
// +kubebuilder:object:generate=false
type Conflict struct {
	Path    string // as written
	Message string // what is wrong and what to do
}

// Written returns the path at which the field at path of a normalised object was
// written: path itself, unless it or a parent was renamed.
func Written(renames []Rename, path string) string {
	best := -1
	for i, r := range renames {
		if within(path, r.To) && (best < 0 || len(r.To) > len(renames[best].To)) {
			best = i
		}
	}
	if best < 0 {
		return path
	}
	return renames[best].From + path[len(renames[best].To):]
}

// within reports whether path is parent or below it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Normalize brings obj, a decoded object of kind, to the spelling of the Go types,
// in place: fields under the names that other versions of this API and the
// project's own documents use, enumerations in any case and with or without
// underscores, strings where the type has an object. It adds what follows from
// the rest: a type when exactly one block is set, the group of a target's kind.
//
// It returns where renamed fields were written, for [Written], and what it could
// not bring to one spelling, in the order of paths. Normalising twice changes
// nothing. Values of a wrong type and unknown fields stay as they are, and so does
// an object of a kind that is not of this package.
func Normalize(kind string, obj map[string]any) (renames []Rename, conflicts []Conflict) {
	s := kindSchema(kind)
	if s == nil {
		return nil, nil
	}
	n := &normalizer{}
	for _, sp := range spellings() {
		if slices.Contains(sp.kinds, kind) {
			n.each("", obj, sp.in, func(path string, m map[string]any) { sp.apply(n, path, m) })
		}
	}
	walk("", s, obj, n.enum)
	n.localSecrets(s, obj)
	slices.SortStableFunc(n.conflicts, func(a, b Conflict) int { return strings.Compare(a.Path, b.Path) })
	return n.renames, n.conflicts
}

// A normalizer collects what happens to one object.
//
// +kubebuilder:object:generate=false
type normalizer struct {
	renames   []Rename
	conflicts []Conflict
}

// renamed notes that what is at to now was at from, both in the object's current
// state: what is below from may have been renamed before, and so may a parent of
// it.
func (n *normalizer) renamed(from, to string) {
	written := Written(n.renames, from)
	kept := n.renames[:0]
	for _, r := range n.renames {
		if within(r.To, from) {
			r.To = to + r.To[len(from):]
		}
		if r.To != to && r.From != r.To {
			kept = append(kept, r)
		}
	}
	n.renames = kept
	if written != to {
		n.renames = append(n.renames, Rename{From: written, To: to})
	}
}

// conflict notes a conflict about what is at path.
func (n *normalizer) conflict(path, format string, args ...any) {
	n.conflicts = append(n.conflicts, Conflict{Path: Written(n.renames, path), Message: fmt.Sprintf(format, args...)})
}

// each calls f for each object below m, which is at path, that pattern leads to:
// field names separated by dots, [] for every item of a list, * for every field.
func (n *normalizer) each(path string, m map[string]any, pattern string, f func(string, map[string]any)) {
	if pattern == "" {
		f(path, m)
		return
	}
	head, rest, _ := strings.Cut(pattern, ".")
	name, list := strings.CutSuffix(head, "[]")
	names := []string{name}
	if name == "*" {
		names = slices.Sorted(maps.Keys(m))
	}
	for _, k := range names {
		switch v := m[k].(type) {
		case map[string]any:
			if !list {
				n.each(child(path, k), v, rest, f)
			}
		case []any:
			for i := range v {
				if item, ok := v[i].(map[string]any); ok && list {
					n.each(index(child(path, k), i), item, rest, f)
				}
			}
		}
	}
}

// move moves what stands at from within the object m at path to to, both dotted
// names. Blocks that become empty on the way go. What stands at to already must
// be equal.
func (n *normalizer) move(path string, m map[string]any, from, to string) {
	v, ok := get(m, from)
	if !ok {
		return
	}
	if to == "." {
		n.hoist(path, m, from)
		return
	}
	old, exists := get(m, to)
	if exists && old != nil && !reflect.DeepEqual(old, v) {
		n.conflict(child(path, from), "%s and %s are two spellings of one field, here with different values: keep one of them", from, to)
		return
	}
	if !put(m, to, v) {
		n.conflict(child(path, from), "%s goes into %s, which is not an object", from, parent(to))
		return
	}
	remove(m, from)
	n.renamed(child(path, from), child(path, to))
}

// hoist moves each field of the block at from of the object m at path into m.
func (n *normalizer) hoist(path string, m map[string]any, from string) {
	block, _ := m[from].(map[string]any)
	if block == nil {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(block)) {
		if k == from {
			return // the block holds itself: not what is meant here
		}
	}
	for _, k := range slices.Sorted(maps.Keys(block)) {
		n.move(path, m, from+"."+k, k)
	}
	if len(block) == 0 {
		delete(m, from)
	}
}

// get returns what stands at the dotted name.
func get(m map[string]any, name string) (any, bool) {
	head, rest, more := strings.Cut(name, ".")
	v, ok := m[head]
	if !more || !ok {
		return v, ok
	}
	sub, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	return get(sub, rest)
}

// put sets what stands at the dotted name, making objects on the way. It reports
// false when something else is in the way.
func put(m map[string]any, name string, v any) bool {
	head, rest, more := strings.Cut(name, ".")
	if !more {
		m[head] = v
		return true
	}
	if m[head] == nil {
		m[head] = map[string]any{}
	}
	sub, ok := m[head].(map[string]any)
	return ok && put(sub, rest, v)
}

// remove removes what stands at the dotted name, and the objects on the way that
// become empty.
func remove(m map[string]any, name string) {
	head, rest, more := strings.Cut(name, ".")
	if !more {
		delete(m, head)
		return
	}
	sub, ok := m[head].(map[string]any)
	if !ok {
		return
	}
	remove(sub, rest)
	if len(sub) == 0 {
		delete(m, head)
	}
}

// parent returns the dotted name without its last part.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}

// fold is how enumerations and vendor keys are compared.
func fold(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// enum brings a string whose schema lists values to the listed spelling. What
// YAML 1.1 takes for a boolean, such as Off, is one of those too.
func (n *normalizer) enum(_ string, s *apiextensionsv1.JSONSchemaProps, v any) any {
	if v == false && slices.Contains(enumValues(s), "Off") {
		return "Off"
	}
	str, ok := v.(string)
	if !ok || len(s.Enum) == 0 {
		return v
	}
	for _, allowed := range enumValues(s) {
		if fold(str) == fold(allowed) {
			return allowed
		}
	}
	return v
}

// enumValues returns the strings that s lists.
func enumValues(s *apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for _, e := range s.Enum {
		if v, err := strconv.Unquote(string(e.Raw)); err == nil {
			out = append(out, v)
		}
	}
	return out
}

// localSecrets takes the namespace off references to Secrets, which are always in
// the object's own: another one is a conflict.
func (n *normalizer) localSecrets(s *apiextensionsv1.JSONSchemaProps, obj map[string]any) {
	own, _ := get(obj, "metadata.namespace")
	walk("", s, obj, func(path string, _ *apiextensionsv1.JSONSchemaProps, v any) any {
		ref, ok := v.(map[string]any)
		if !ok || !strings.HasSuffix(path, ".secretRef") {
			return v
		}
		ns, ok := ref["namespace"].(string)
		if !ok {
			return v
		}
		if want, _ := own.(string); ns == want || ns == "default" && want == "" {
			delete(ref, "namespace")
			return v
		}
		n.conflict(path+".namespace", "the Secret must be in the namespace of this object: remove namespace, and put the Secret there")
		return v
	})
}
