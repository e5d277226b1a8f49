package v1alpha1

import (
	"encoding/json"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// Schema returns a JSON Schema (2020-12) for editors: of a YAML document that is
// an object of one of the kinds, in every spelling that [Normalize] knows. What
// the document is, its apiVersion and kind decide; documents of other APIs are
// not looked into.
func Schema() ([]byte, error) {
	defs := map[string]any{}
	choices := []any{}
	for _, kind := range Kinds() {
		def, err := jsonSchema(accepted(kind))
		if err != nil {
			return nil, fmt.Errorf("describing kind %s: %w", kind, err)
		}
		properties := def["properties"].(map[string]any)
		properties["apiVersion"] = map[string]any{"const": GroupVersion.String()}
		properties["kind"] = map[string]any{"const": kind}
		def["required"] = []string{"apiVersion", "kind", "metadata", "spec"}
		properties["metadata"].(map[string]any)["required"] = []string{"name"}
		defs[kind] = def
		choices = append(choices, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"kind": map[string]any{"const": kind}}, "required": []string{"kind"}},
			"then": map[string]any{"$ref": "#/$defs/" + kind},
		})
	}
	return json.MarshalIndent(map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "mcpgw resources",
		"description": "A resource of mcpgw, or of another API that it reads, such as the Gateway API.",
		"type":        "object",
		"required":    []string{"apiVersion", "kind"},
		"properties": map[string]any{
			"apiVersion": map[string]any{"type": "string", "description": "The API of the object: " + GroupVersion.String() + ", gateway.networking.k8s.io/v1 or v1."},
			"kind":       map[string]any{"type": "string", "description": "The kind of the object."},
		},
		"if": map[string]any{"properties": map[string]any{"apiVersion": map[string]any{"const": GroupVersion.String()}}},
		"then": map[string]any{
			"properties": map[string]any{"kind": map[string]any{"enum": Kinds()}},
			"allOf":      choices,
		},
		"$defs": defs,
	}, "", "  ")
}

// jsonSchema returns s in JSON Schema: objects without unknown fields, and
// enumerations in every case.
func jsonSchema(s *apiextensionsv1.JSONSchemaProps) (map[string]any, error) {
	out := map[string]any{}
	if s.Description != "" {
		out["description"] = s.Description
	}
	if s.Default != nil {
		var d any
		if err := json.Unmarshal(s.Default.Raw, &d); err != nil {
			return nil, err
		}
		out["default"] = d
	}
	if isOpen(s) {
		if s.Type != "" {
			out["type"] = s.Type
		}
		return out, nil
	}
	if s.XIntOrString {
		out["type"] = []string{"integer", "number", "string"}
		return out, nil
	}
	if s.Type != "" {
		out["type"] = s.Type
	}
	numbers := map[string]*float64{"minimum": s.Minimum, "maximum": s.Maximum}
	for k, v := range numbers {
		if v != nil {
			out[k] = *v
		}
	}
	counts := map[string]*int64{
		"minLength": s.MinLength, "maxLength": s.MaxLength, "minItems": s.MinItems, "maxItems": s.MaxItems,
		"minProperties": s.MinProperties, "maxProperties": s.MaxProperties,
	}
	for k, v := range counts {
		if v != nil {
			out[k] = *v
		}
	}
	if s.Format == "password" {
		out["format"], out["writeOnly"] = "password", true
	}
	switch {
	case len(s.Enum) > 0:
		list := enumValues(s)
		forms := []any{map[string]any{"enum": list}, map[string]any{"pattern": anyCase(list)}}
		if slices.Contains(list, "Off") { // which YAML 1.1 reads as false
			forms = append(forms, map[string]any{"const": false})
			delete(out, "type")
		}
		out["anyOf"] = forms
	case s.Pattern != "":
		out["pattern"] = s.Pattern
	}
	if sub := items(s); sub != nil {
		m, err := jsonSchema(sub)
		if err != nil {
			return nil, err
		}
		out["items"] = m
	}
	if s.Type != "object" {
		return out, nil
	}
	if sub := values(s); sub != nil {
		m, err := jsonSchema(sub)
		if err != nil {
			return nil, err
		}
		out["additionalProperties"] = m
		return out, nil
	}
	properties := map[string]any{}
	for k, p := range s.Properties {
		m, err := jsonSchema(&p)
		if err != nil {
			return nil, err
		}
		properties[k] = m
	}
	out["properties"] = properties
	out["additionalProperties"] = false
	if len(s.Required) > 0 {
		out["required"] = s.Required
	}
	return out, nil
}

// anyCase returns a regular expression, in the syntax of ECMA 262, for values in
// any case, with or without underscores.
func anyCase(list []string) string {
	pattern := "^(?:"
	for i, v := range list {
		if i > 0 {
			pattern += "|"
		}
		for _, r := range v {
			switch {
			case r >= 'A' && r <= 'Z':
				pattern += fmt.Sprintf("_?[%c%c]", r, r-'A'+'a')
			case r >= 'a' && r <= 'z':
				pattern += fmt.Sprintf("[%c%c]", r-'a'+'A', r)
			case r == '_':
				pattern += "_?"
			case r == '.' || r == '/' || r == '-':
				pattern += `\` + string(r)
			default:
				pattern += "_?" + string(r)
			}
		}
	}
	return pattern + ")$"
}
