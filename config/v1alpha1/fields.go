package v1alpha1

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// An UnknownField is a field that the kind does not have.
//
// +kubebuilder:object:generate=false
type UnknownField struct {
	Path  string   // in the normalised object
	Known []string // what the object that holds it can have, sorted
}

// UnknownFields returns the fields of obj, a normalised object of kind, that the
// kind does not have, in the order of paths.
func UnknownFields(kind string, obj map[string]any) []UnknownField {
	s := kindSchema(kind)
	if s == nil {
		return nil
	}
	var out []UnknownField
	walk("", s, obj, func(path string, s *apiextensionsv1.JSONSchemaProps, v any) any {
		m, ok := v.(map[string]any)
		if !ok || isOpen(s) || s.Type != "object" || values(s) != nil {
			return v
		}
		known := fieldNames(kind, path, s)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if _, ok := s.Properties[k]; !ok {
				out = append(out, UnknownField{Path: child(path, k), Known: known})
			}
		}
		return v
	})
	return out
}

// fieldNames returns the names that fields of the object at path, whose schema is
// s, have: those of the Go types and others that Normalize knows. They are sorted.
func fieldNames(kind, path string, s *apiextensionsv1.JSONSchemaProps) []string {
	names := slices.Collect(maps.Keys(s.Properties))
	for _, other := range aliases(kind, listPattern(path)) {
		names = append(names, other...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// itemNumber is the number of a list item in a path.
var itemNumber = regexp.MustCompile(`\[[0-9]+\]`)

// listPattern returns path without the numbers of list items.
func listPattern(path string) string { return itemNumber.ReplaceAllString(path, "[]") }

// KnownFields returns the names that fields of the object at path can have in an
// object of kind, sorted: those of the Go types and other accepted spellings. It
// reports false when there is no such object, or when it can have any field.
// Items of lists are written [0] or [].
func KnownFields(kind, path string) ([]string, bool) {
	s := kindSchema(kind)
	if s == nil {
		return nil, false
	}
	s = schemaAt(s, path)
	if s == nil || s.Type != "object" || values(s) != nil || isOpen(s) {
		return nil, false
	}
	return fieldNames(kind, path, s), true
}

// schemaAt returns the schema of what is at path below s, or nil.
func schemaAt(s *apiextensionsv1.JSONSchemaProps, path string) *apiextensionsv1.JSONSchemaProps {
	for path != "" && s != nil {
		var head string
		head, path, _ = strings.Cut(path, ".")
		name, rest, list := strings.Cut(head, "[")
		if name != "" {
			if p, ok := s.Properties[name]; ok {
				s = &p
			} else {
				s = values(s)
			}
		}
		for list && s != nil {
			s = items(s)
			_, rest, list = strings.Cut(rest, "[")
		}
	}
	return s
}
