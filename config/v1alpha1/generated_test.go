package v1alpha1

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// TestGenerated shows that the definitions were generated from the Go types as
// they are: the same fields, with the same text.
func TestGenerated(t *testing.T) {
	docs := fieldDocs(t)
	for _, kind := range Kinds() {
		o := reflect.TypeOf(New(kind)).Elem()
		spec, _ := o.FieldByName("Spec")
		s := kindSchema(kind).Properties["spec"]
		compare(t, docs, kind+".spec", spec.Type, &s)
	}
}

// fieldDocs returns the doc comments of fields, by type and Go name, as the
// generator reads them: without markers.
func fieldDocs(t *testing.T) map[string]string {
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) == 0 {
		t.Fatal("no Go files here: ", err)
	}
	docs := map[string]string{}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if structure, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range structure.Fields.List {
					var text []string
					for _, line := range strings.Split(field.Doc.Text(), "\n") {
						if !strings.HasPrefix(strings.TrimSpace(line), "+") {
							text = append(text, line)
						}
					}
					for _, name := range field.Names {
						docs[spec.Name.Name+"."+name.Name] = plain(strings.Join(text, "\n"))
					}
				}
			}
			return true
		})
	}
	return docs
}

// compare compares the fields of t, a type of this package, with those of s.
func compare(tb *testing.T, docs map[string]string, path string, t reflect.Type, s *apiextensionsv1.JSONSchemaProps) {
	for {
		switch {
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
			continue
		case t.Kind() == reflect.Slice && items(s) != nil:
			t, s, path = t.Elem(), items(s), path+"[]"
			continue
		case t.Kind() == reflect.Map && values(s) != nil:
			t, s, path = t.Elem(), values(s), path+".*"
			continue
		}
		break
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[Backend]().PkgPath() {
		return
	}
	fields := jsonFields(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
		tb.Errorf("%s: run go generate: fields (-Go +definition):\n%s", path, diff)
		return
	}
	for name, f := range fields {
		p := s.Properties[name]
		if want := docs[f.owner+"."+f.Name]; plain(p.Description) != want {
			tb.Errorf("%s.%s: run go generate: the text is %q, in Go %q", path, name, plain(p.Description), want)
		}
		compare(tb, docs, path+"."+name, f.Type, &p)
	}
}

// A jsonField is a field and the type that declares it.
type jsonField struct {
	reflect.StructField
	owner string
}

// jsonFields returns the fields of t, those of embedded types included, by name.
func jsonFields(t reflect.Type) map[string]jsonField {
	out := map[string]jsonField{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			maps.Copy(out, jsonFields(f.Type))
			continue
		}
		out[name] = jsonField{f, t.Name()}
	}
	return out
}
