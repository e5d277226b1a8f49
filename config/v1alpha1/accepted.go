package v1alpha1

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CRDs returns the custom resource definitions of all kinds, for an API server.
// They accept every spelling that [Normalize] knows: an API server drops fields
// that a definition does not name before anyone can normalise them.
func CRDs() []*apiextensionsv1.CustomResourceDefinition {
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, kind := range Kinds() {
		crd := definitions[kind]().crd.DeepCopy()
		s := accepted(kind)
		s.Properties["metadata"] = apiextensionsv1.JSONSchemaProps{Type: "object"}
		*s = modify(*s, func(s *apiextensionsv1.JSONSchemaProps) {
			for i := range s.XValidations {
				s.XValidations[i].Rule = anyCaseRule(s.XValidations[i].Rule)
			}
			if len(s.Enum) > 0 && s.Type == "string" {
				longest := int64(64) // rules that read the value need a limit
				s.Pattern, s.Enum, s.MaxLength = enumPattern(enumValues(s)), nil, &longest
			}
		})
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema = s
		crd.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
		crd.TypeMeta = metav1.TypeMeta{APIVersion: apiextensionsv1.SchemeGroupVersion.String(), Kind: "CustomResourceDefinition"}
		out = append(out, crd)
	}
	return out
}

// comparison is a part of a rule that compares an enumeration.
var comparison = regexp.MustCompile(`self\.(\w+) (==|!=|in) ('[^']*'|\[[^]]*\])`)

// anyCaseRule returns rule with its enumerations compared in any case, with or
// without underscores.
func anyCaseRule(rule string) string {
	return comparison.ReplaceAllStringFunc(rule, func(c string) string {
		m := comparison.FindStringSubmatch(c)
		return "self." + m[1] + ".lowerAscii().replace('_', '') " + m[2] + " " + strings.ToLower(strings.ReplaceAll(m[3], "_", ""))
	})
}

// accepted returns the schema of kind with every spelling that Normalize knows.
func accepted(kind string) *apiextensionsv1.JSONSchemaProps {
	s := kindSchema(kind).DeepCopy()
	// Inner objects first, so that the copies of outer fields under other names
	// hold the other names of inner ones.
	for _, sp := range slices.Backward(spellings()) {
		if slices.Contains(sp.kinds, kind) {
			*s = modifyAt(*s, sp.in, sp.accept)
		}
	}
	*s = modify(*s, func(s *apiextensionsv1.JSONSchemaProps) {
		s.Description = plain(s.Description)
		if ref, ok := s.Properties["secretRef"]; ok && ref.Properties != nil {
			ref.Properties["namespace"] = apiextensionsv1.JSONSchemaProps{Type: "string", Description: "The namespace of this object, if any: no other is possible."}
		}
	})
	return s
}

// modify returns a copy of s in which f has changed s and all schemas within it,
// inner ones first.
func modify(s apiextensionsv1.JSONSchemaProps, f func(*apiextensionsv1.JSONSchemaProps)) apiextensionsv1.JSONSchemaProps {
	for k, p := range s.Properties {
		s.Properties[k] = modify(p, f)
	}
	if sub := items(&s); sub != nil {
		m := modify(*sub, f)
		s.Items.Schema = &m
	}
	if sub := values(&s); sub != nil {
		m := modify(*sub, f)
		s.AdditionalProperties.Schema = &m
	}
	f(&s)
	return s
}

// modifyAt returns s after f has changed the schemas that pattern leads to, see
// normalizer.each.
func modifyAt(s apiextensionsv1.JSONSchemaProps, pattern string, f func(*apiextensionsv1.JSONSchemaProps)) apiextensionsv1.JSONSchemaProps {
	if pattern == "" {
		f(&s)
		return s
	}
	head, rest, _ := strings.Cut(pattern, ".")
	name, list := strings.CutSuffix(head, "[]")
	if sub := values(&s); sub != nil && name == "*" {
		m := modifyAt(*sub, rest, f)
		s.AdditionalProperties.Schema = &m
	}
	for k, p := range s.Properties {
		switch {
		case name != "*" && name != k:
		case !list:
			s.Properties[k] = modifyAt(p, rest, f)
		case items(&p) != nil:
			m := modifyAt(*items(&p), rest, f)
			p.Items.Schema = &m
			s.Properties[k] = p
		}
	}
	return s
}

// accept adds to s, the schema of the objects that sp is about, what sp brings to
// the spelling of the Go types.
func (sp *spelling) accept(s *apiextensionsv1.JSONSchemaProps) {
	if s.Type != "object" {
		return
	}
	for _, field := range sp.inferred {
		s.Required = slices.DeleteFunc(s.Required, func(r string) bool { return r == field })
	}
	for _, field := range sp.loose {
		p := s.Properties[field]
		s.Properties[field] = open(p.Description)
		// Rules can't see a field without a type; Validate has them too.
		s.XValidations = slices.DeleteFunc(s.XValidations, func(r apiextensionsv1.ValidationRule) bool {
			return strings.Contains(r.Rule, "self."+field)
		})
	}
	for name, description := range sp.extra {
		s.Properties[name] = open(description)
	}
	if sp.from == "" {
		return
	}
	if sp.to == "." {
		block := open("Its fields may also stand in the block that holds it.")
		block.Type = "object"
		s.Properties[sp.from] = block
		for i := range s.XValidations {
			s.XValidations[i].Rule = "has(self." + sp.from + ") || (" + s.XValidations[i].Rule + ")"
		}
		return
	}
	target := schemaAt(s, sp.to)
	if target == nil {
		return
	}
	other := modify(*target.DeepCopy(), func(s *apiextensionsv1.JSONSchemaProps) { s.Description = "" })
	other.Description = fmt.Sprintf("Another spelling of %s.", sp.to)
	names := []string{sp.from}
	if sp.fold {
		names = append(names, strings.ToLower(sp.from), strings.ToLower(snake(sp.to)), strings.ToLower(snake(sp.from)))
	}
	for _, name := range names {
		if name == sp.to {
			continue
		}
		place(s, name, other)
		s.Required = slices.DeleteFunc(s.Required, func(r string) bool { return r == sp.to })
		if first, _, _ := strings.Cut(name, "."); !strings.Contains(sp.to, ".") {
			either(s, sp.to, first)
		}
	}
}

// either makes the rules of s count the field other where they count name.
func either(s *apiextensionsv1.JSONSchemaProps, name, other string) {
	has := "has(self." + name + ")"
	for i := range s.XValidations {
		rule := &s.XValidations[i]
		// The field's own test stands last in what an earlier name has made.
		rule.Rule = strings.ReplaceAll(rule.Rule, has, "(has(self."+other+") || "+has+")")
	}
}

// place sets the schema of the dotted name below s, making objects on the way.
func place(s *apiextensionsv1.JSONSchemaProps, name string, p apiextensionsv1.JSONSchemaProps) {
	head, rest, more := strings.Cut(name, ".")
	if s.Properties == nil {
		s.Properties = map[string]apiextensionsv1.JSONSchemaProps{}
	}
	if !more {
		s.Properties[head] = p
		return
	}
	sub, ok := s.Properties[head]
	if !ok {
		sub = apiextensionsv1.JSONSchemaProps{Type: "object", Description: "Holds other spellings."}
	}
	place(&sub, rest, p)
	s.Properties[head] = sub
}

// open returns a schema that permits anything: what it describes is checked once
// it is normalised.
func open(description string) apiextensionsv1.JSONSchemaProps {
	yes := true
	return apiextensionsv1.JSONSchemaProps{Description: description, XPreserveUnknownFields: &yes}
}

// enumPattern returns a regular expression for values in any case, with or
// without underscores between words.
func enumPattern(list []string) string {
	var forms []string
	for _, v := range list {
		for _, form := range []string{v, strings.ReplaceAll(v, "_", ""), snake(v)} {
			if form = regexp.QuoteMeta(strings.ToLower(form)); !slices.Contains(forms, form) {
				forms = append(forms, form)
			}
		}
	}
	return "^(?i:" + strings.Join(forms, "|") + ")$"
}

// snake returns s with underscores before capitals that begin a word.
func snake(s string) string {
	var b strings.Builder
	prev := rune(0)
	for _, r := range s {
		if unicode.IsUpper(r) && unicode.IsLower(prev) {
			b.WriteByte('_')
		}
		b.WriteRune(r)
		prev = r
	}
	return b.String()
}

// docLink is a link to a Go name, as doc comments have them.
var docLink = regexp.MustCompile(`\[([A-Z][A-Za-z.]*)\]`)

// plain returns a doc comment as text for readers who don't see Go: links are
// names, and lines are joined.
func plain(s string) string {
	paragraphs := strings.Split(docLink.ReplaceAllString(s, "$1"), "\n\n")
	for i := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(paragraphs[i]), " ")
	}
	return strings.Join(paragraphs, "\n\n")
}
