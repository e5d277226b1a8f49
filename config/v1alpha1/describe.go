package v1alpha1

import (
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// A FieldDoc is what the reference says of a field.
//
// +kubebuilder:object:generate=false
type FieldDoc struct {
	Kind        string
	Path        string   // spec.mcp.targets[].name, in the spelling of the Go types; empty for the kind itself
	Type        string   // string, number, boolean, object, list of …, map of …
	Description string   // meaning, default, range, what happens when it is absent
	Required    bool     // whether the object that holds it must have it
	Default     string   // as JSON; empty when there is none
	Values      []string // what it can be, when that is a fixed set
	OtherNames  []string // names under which the same object accepts it too
	Fields      []string // paths of the fields that it has, sorted
}

// Describe returns what the reference says of the field at path, which is a kind
// and field names such as Backend.spec.mcp.targets.name. The kind is written in
// any case; items of lists may be written [] or [0], or left out; names may be
// other spellings. It reports false when there is no such field.
func Describe(path string) (FieldDoc, bool) {
	head, rest, _ := strings.Cut(path, ".")
	for _, kind := range Kinds() {
		if strings.EqualFold(head, kind) || strings.EqualFold(head, plural(kind)) {
			return describe(kind, rest)
		}
	}
	return FieldDoc{}, false
}

// describe returns what the reference says of the field at path of kind.
func describe(kind, path string) (FieldDoc, bool) {
	s := kindSchema(kind)
	doc := FieldDoc{Kind: kind}
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, ".")
		name, _, _ = strings.Cut(name, "[")
		for s.Type == "array" && items(s) != nil {
			s, doc.Path = items(s), doc.Path+"[]"
		}
		if values(s) != nil {
			s, doc.Path = values(s), child(doc.Path, "*")
			doc.Required, doc.OtherNames = false, nil
			continue
		}
		other := aliases(kind, doc.Path)
		if _, ok := s.Properties[name]; !ok {
			name = canonical(name, other)
		}
		p, ok := s.Properties[name]
		if !ok {
			return FieldDoc{}, false
		}
		doc.Required = slices.Contains(s.Required, name)
		doc.OtherNames = other[name]
		doc.Path = child(doc.Path, name)
		s = &p
	}
	doc.Type = typeName(s)
	doc.Description = plain(s.Description)
	doc.Values = enumValues(s)
	if s.Default != nil {
		doc.Default = string(s.Default.Raw)
	}
	at := doc.Path
	for s.Type == "array" && items(s) != nil {
		s, at = items(s), at+"[]"
	}
	if len(doc.Values) == 0 {
		doc.Values = enumValues(s)
	}
	if sub := values(s); sub != nil {
		s, at = sub, child(at, "*")
	}
	for _, k := range slices.Sorted(maps.Keys(s.Properties)) {
		doc.Fields = append(doc.Fields, child(at, k))
	}
	return doc, true
}

// canonical returns the name of the Go types of which name is another spelling,
// or name.
func canonical(name string, aliases map[string][]string) string {
	for to, others := range aliases {
		for _, other := range others {
			if fold(other) == fold(name) {
				return to
			}
		}
	}
	return name
}

// typeName returns the name of the type of s, for readers.
func typeName(s *apiextensionsv1.JSONSchemaProps) string {
	switch {
	case s.XIntOrString:
		return "number or string"
	case s.Type == "" || isOpen(s):
		return "anything"
	case s.Type == "array" && items(s) != nil:
		return "list of " + typeName(items(s))
	case values(s) != nil:
		return "map of " + typeName(values(s))
	case s.Type == "integer":
		return "whole number"
	case s.Pattern == durationPattern:
		return "duration"
	}
	return s.Type
}
