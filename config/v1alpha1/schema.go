package v1alpha1

import (
	"embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// crdFiles are the custom resource definitions as generated from the Go types:
// with the spelling of the types, and no other.
//
//go:embed crds/*.yaml
var crdFiles embed.FS

// plurals are the names of the kinds in crdFiles.
func plural(kind string) string {
	switch kind {
	case KindGatewayParameters:
		return "gatewayparameters"
	case KindTrafficPolicy, KindHTTPListenerPolicy, KindBackendConfigPolicy:
		return strings.ToLower(strings.TrimSuffix(kind, "y")) + "ies"
	}
	return strings.ToLower(kind) + "s"
}

// A definition is what the package knows of a kind.
//
// +kubebuilder:object:generate=false
type definition struct {
	crd      *apiextensionsv1.CustomResourceDefinition
	schema   *apiextensionsv1.JSONSchemaProps
	patterns map[string]*regexp.Regexp // of strings, by source
}

// definitions are parsed when first asked for: that of GatewayParameters is long
// and rarely needed.
var definitions = func() map[string]func() *definition {
	m := map[string]func() *definition{}
	for _, kind := range Kinds() {
		m[kind] = sync.OnceValue(func() *definition {
			d := &definition{crd: parseCRD(kind), patterns: map[string]*regexp.Regexp{}}
			d.schema = d.crd.Spec.Versions[0].Schema.OpenAPIV3Schema.DeepCopy()
			d.schema.Properties["metadata"] = metadataSchema()
			eachSchema("", d.schema, func(_ string, s *apiextensionsv1.JSONSchemaProps) {
				if s.Pattern != "" {
					d.patterns[s.Pattern] = regexp.MustCompile(s.Pattern)
				}
			})
			return d
		})
	}
	return m
}()

// metadataSchema is the schema of metadata, which definitions leave out.
func metadataSchema() apiextensionsv1.JSONSchemaProps {
	str := func(description string) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "string", Description: description}
	}
	dict := func(description string) apiextensionsv1.JSONSchemaProps {
		values := apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}
		return apiextensionsv1.JSONSchemaProps{Type: "object", Description: description, AdditionalProperties: &values}
	}
	written := apiextensionsv1.JSONSchemaProps{Description: "Written by the API server, and ignored in files."}
	return apiextensionsv1.JSONSchemaProps{
		Type:        "object",
		Description: "The name of the object, which is needed, and what is noted about it.",
		Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"name":                       str("The name of the object, unique among those of its kind and namespace. Required."),
			"namespace":                  str("The namespace of the object. Default: default."),
			"generateName":               str("The beginning of a name that the API server completes. Not for files."),
			"labels":                     dict("Labels, by which selectors find the object. Default: none."),
			"annotations":                dict("Annotations. Default: none."),
			"creationTimestamp":          written,
			"deletionGracePeriodSeconds": written,
			"deletionTimestamp":          written,
			"finalizers":                 written,
			"generation":                 written,
			"managedFields":              written,
			"ownerReferences":            written,
			"resourceVersion":            written,
			"selfLink":                   written,
			"uid":                        written,
		},
	}
}

// eachSchema calls f for s, which is the schema of path, and all schemas within
// it, in the order of paths; [] stands for the items of a list and * for the
// values of a map.
func eachSchema(path string, s *apiextensionsv1.JSONSchemaProps, f func(string, *apiextensionsv1.JSONSchemaProps)) {
	f(path, s)
	for _, k := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[k]
		eachSchema(child(path, k), &p, f)
	}
	if sub := items(s); sub != nil {
		eachSchema(path+"[]", sub, f)
	}
	if sub := values(s); sub != nil {
		eachSchema(child(path, "*"), sub, f)
	}
}

// parseCRD panics on an error, since what it parses is part of the program.
func parseCRD(kind string) *apiextensionsv1.CustomResourceDefinition {
	b, err := crdFiles.ReadFile("crds/" + GroupName + "_" + plural(kind) + ".yaml")
	if err != nil {
		panic(fmt.Sprintf("reading the definition of kind %s: %v", kind, err))
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(b, crd); err != nil {
		panic(fmt.Sprintf("parsing the definition of kind %s: %v", kind, err))
	}
	return crd
}

// kindSchema returns the schema of kind, or nil when the package has no such
// kind. It must not be changed.
func kindSchema(kind string) *apiextensionsv1.JSONSchemaProps {
	d, ok := definitions[kind]
	if !ok {
		return nil
	}
	return d().schema
}

// kindPatterns returns the compiled patterns of the schema of kind.
func kindPatterns(kind string) map[string]*regexp.Regexp {
	d, ok := definitions[kind]
	if !ok {
		return nil
	}
	return d().patterns
}

// items returns the schema of a list's items, or nil.
func items(s *apiextensionsv1.JSONSchemaProps) *apiextensionsv1.JSONSchemaProps {
	if s.Items == nil {
		return nil
	}
	return s.Items.Schema
}

// values returns the schema of a map's values, or nil.
func values(s *apiextensionsv1.JSONSchemaProps) *apiextensionsv1.JSONSchemaProps {
	if s.AdditionalProperties == nil {
		return nil
	}
	return s.AdditionalProperties.Schema
}

// isOpen reports whether an object of schema s may hold any field.
func isOpen(s *apiextensionsv1.JSONSchemaProps) bool {
	return s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
}

// A visit is called for each value that has a schema, parents first. It may
// change what v holds, and returns the value to go on with.
type visit func(path string, s *apiextensionsv1.JSONSchemaProps, v any) any

// walk visits v, whose schema is s, and all within it, in the order of paths. It
// returns the visited v.
func walk(path string, s *apiextensionsv1.JSONSchemaProps, v any, f visit) any {
	v = f(path, s, v)
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			sub, ok := s.Properties[k]
			if !ok {
				if values(s) == nil {
					continue
				}
				sub = *values(s)
			}
			v[k] = walk(child(path, k), &sub, v[k], f)
		}
	case []any:
		sub := items(s)
		if sub == nil {
			break
		}
		for i := range v {
			v[i] = walk(index(path, i), sub, v[i], f)
		}
	}
	return v
}

// child returns the path of field k of the object at path.
func child(path, k string) string {
	if path == "" {
		return k
	}
	return path + "." + k
}

// index returns the path of item i of the list at path.
func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Default fills in, in place, what obj, a normalised object of kind, does not
// say and what has a default, as the API server does in a cluster: within blocks
// that are there, never by adding a block. A default that depends on other fields
// is left to the code that reads the field. It does nothing for a kind that is
// not of this package.
func Default(kind string, obj map[string]any) {
	s := kindSchema(kind)
	if s == nil {
		return
	}
	walk("", s, obj, func(_ string, s *apiextensionsv1.JSONSchemaProps, v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		for name, p := range s.Properties {
			if p.Default == nil || m[name] != nil {
				continue
			}
			var d any
			if err := kjson.UnmarshalCaseSensitivePreserveInts(p.Default.Raw, &d); err != nil {
				panic(fmt.Sprintf("parsing the default of %s of kind %s: %v", name, kind, err))
			}
			m[name] = d
		}
		return v
	})
}

// Decode converts obj, a normalised object of kind, into the Go type of kind. Its
// error says which field has a value of the wrong type. Unknown fields are
// ignored: see [UnknownFields].
func Decode(kind string, obj map[string]any) (Object, error) {
	o := New(kind)
	if o == nil {
		return nil, fmt.Errorf("kind %s is not one of %s", kind, GroupVersion)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, o); err != nil {
		return nil, err
	}
	return o, nil
}
