package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// Load reads resources from files and directories. Of a directory it reads the
// *.yaml, *.yml and *.json files, and those of its subdirectories, in the order of
// names. A file holds any number of YAML documents; a List counts as its items.
//
// Every mistake in all of them is in the report. The resources are never nil, and
// hold what could be read: they are to be used when the report has no Invalid
// problem. Expressions are not compiled and references not resolved here.
func Load(paths []string) (*Resources, *Report) {
	report := &Report{}
	files, _ := readFiles(paths, report)
	return loadFiles(files, strings.Join(paths, ", "), report)
}

// LoadFiles reads resources from files in memory, as [Load] does.
func LoadFiles(files []File) (*Resources, *Report) {
	names := make([]string, len(files))
	for i := range files {
		names[i] = files[i].Name
	}
	return loadFiles(files, strings.Join(names, ", "), &Report{})
}

// loadFiles adds what it finds to report, and sorts it. from says where the files
// come from.
func loadFiles(files []File, from string, report *Report) (*Resources, *Report) {
	l := &loader{
		report: report,
		out: &Resources{Local: true, Positions: &Positions{
			objects: map[ObjectRef]*written{}, sources: &Sources{files: map[string]*source{}},
		}},
		rules: kubernetesRules(),
		sum:   sha256.New(),
	}
	for _, f := range files {
		if !l.full() {
			l.file(f)
		}
	}
	if l.full() {
		report.Problems = report.Problems[:maxProblems]
		report.Add(Problem{
			Class: Invalid, Code: CodeTooManyProblems, Position: Position{File: from}, Message: fmt.Sprintf("more than %d problems: the rest is not told", maxProblems),
		})
	}
	if l.objects == 0 && !report.Has(Invalid) {
		report.Add(Problem{
			Class: Invalid, Code: CodeNoObjects, Position: Position{File: from}, Message: "there are no objects here",
			Help: "write a Backend, for a start; an empty configuration is never applied",
		})
	}
	l.out.Fingerprint = hex.EncodeToString(l.sum.Sum(nil))
	report.Sort()
	return l.out, report
}

// A loader turns files into resources.
type loader struct {
	report  *Report
	out     *Resources
	rules   map[reflect.Type]rule
	sum     hash.Hash
	objects int
	broken  map[int]bool // lines of the document that were reported as no values
}

// file reads one file.
func (l *loader) file(f File) {
	if len(f.Text) > maxFile {
		l.report.Add(Problem{
			Class: Invalid, Code: CodeFileTooLarge, Position: Position{File: f.Name}, Message: "has more than 4 MiB", Help: "split it",
		})
		return
	}
	src := newSource(f.Name, strings.TrimPrefix(string(f.Text), "\uFEFF"))
	l.out.Positions.sources.files[f.Name] = src
	aliases := 0
	for _, doc := range parseFile(src, l.report) {
		if l.full() {
			return
		}
		before := len(l.report.Problems)
		value, root, complete := build(doc, &aliases, l.report)
		l.broken = map[int]bool{}
		for _, p := range l.report.Problems[before:] {
			l.broken[p.Position.Line] = true
		}
		kind := ""
		if k := root.field("kind"); k != nil {
			kind = k.value
		}
		maskSecrets(src, root, kind)
		if complete {
			l.document(src, value, root)
		}
	}
}

// full reports whether there are so many problems that no more are looked for.
func (l *loader) full() bool { return len(l.report.Problems) > maxProblems }

// document reads the object or objects of a document.
func (l *loader) document(src *source, value any, root *node) {
	if value == nil {
		return // nothing but comments
	}
	w := &written{src: src, root: root}
	m, ok := value.(map[string]any)
	if !ok {
		l.report.Add(Problem{
			Class: Invalid, Code: CodeNotAnObject, Position: src.rest(root.line, root.column),
			Message: "a document must be an object with apiVersion, kind and metadata", Label: "this is " + shape(value),
		})
		return
	}
	kind, _ := m["kind"].(string)
	items, isList := m["items"].([]any)
	if !strings.HasSuffix(kind, "List") || !isList {
		l.object(w, m)
		return
	}
	for i := range items {
		item := root.field("items").items[i]
		maskSecrets(src, item, valueOf(item, "kind"))
		l.document(src, items[i], item)
	}
}

// valueOf returns the text of a field.
func valueOf(n *node, field string) string {
	if f := n.field(field); f != nil {
		return f.value
	}
	return ""
}

// shape says what a value is.
func shape(v any) string {
	switch v.(type) {
	case []any:
		return "a list"
	case string:
		return "text"
	case bool:
		return "true or false"
	}
	return "a number"
}

// object reads one object.
func (l *loader) object(w *written, m map[string]any) {
	k, ok := l.kind(w, m)
	if !ok {
		return
	}
	l.objects++
	ref, ok := l.identity(w, k, m)
	if !ok {
		return
	}
	if first, twice := l.out.Positions.objects[ref]; twice {
		l.report.Add(Problem{
			Class: Invalid, Code: CodeDuplicateObject, Object: ref, Position: w.title(), Message: ref.String() + " is there twice", Label: "here again",
			Related: []Related{{first.title(), "first here"}}, Help: "remove or rename one of them",
		})
		return
	}
	l.out.Positions.objects[ref] = w
	delete(m, "status") // the controller's, and not desired state
	k.read(l, w, ref, m)
	l.fingerprint(m)
}

// fingerprint adds an object to the fingerprint.
func (l *loader) fingerprint(m map[string]any) {
	text, err := json.Marshal(m)
	if err != nil {
		text = fmt.Append(nil, err) // a value that JSON does not know was reported
	}
	l.sum.Write(text)
	l.sum.Write([]byte{'\n'})
}

// identity returns the name of an object, which it completes with the namespace.
func (l *loader) identity(w *written, k kind, m map[string]any) (ObjectRef, bool) {
	ref := ObjectRef{Kind: k.kind}
	metadata, ok := m["metadata"].(map[string]any)
	if !ok {
		l.report.Add(Problem{
			Class: Invalid, Code: CodeName, Object: ref, Position: w.find("metadata"), Message: "`metadata` with the name of the object is missing",
			Label: "write metadata: {name: ...}",
		})
		return ref, false
	}
	problem := func(path, format string, args ...any) *Problem {
		p := Problem{Class: Invalid, Code: CodeName, Object: ref, Path: path, Position: w.find(path), Message: fmt.Sprintf(format, args...)}
		if l.broken[p.Position.Line] {
			return &p // told already
		}
		l.report.Add(p)
		return &l.report.Problems[len(l.report.Problems)-1]
	}
	switch v := metadata["name"].(type) {
	case string:
		ref.Name = v
	case nil:
		p := problem("metadata.name", "`name` is missing")
		if metadata["generateName"] != nil {
			p.Help = "generateName has a meaning in a cluster only: write a name"
		}
		for name := range metadata {
			if Suggest(name, []string{"name", "namespace"}) == "name" && name != "namespace" {
				p.Position, p.Label = w.findKey("metadata."+name), "did you mean `name`?"
			}
		}
		return ref, false
	default:
		problem("metadata.name", "`name` must be a string").Label = "put it in quotes"
		return ref, false
	}
	switch v := metadata["namespace"].(type) {
	case string:
		ref.Namespace = v
	case nil:
	default:
		problem("metadata.namespace", "`namespace` must be a string").Label = "put it in quotes"
		return ref, false
	}
	if !k.namespaced {
		ref.Namespace = ""
		delete(metadata, "namespace")
	} else if ref.Namespace == "" {
		ref.Namespace = metav1.NamespaceDefault
		metadata["namespace"] = ref.Namespace
	}
	switch {
	case k.label && len(validation.IsDNS1123Label(ref.Name)) > 0:
		problem("metadata.name", "`name` %s", label(ref.Name))
		return ref, false
	case len(validation.IsDNS1123Subdomain(ref.Name)) > 0:
		p := problem("metadata.name", "`name` %s", name(ref.Name))
		if near := legalName(ref.Name); near != "" {
			p.Label = "write, say, " + near
		}
		return ref, false
	case k.namespaced && len(validation.IsDNS1123Label(ref.Namespace)) > 0:
		problem("metadata.namespace", "`namespace` %s", label(ref.Namespace))
		return ref, false
	}
	return ref, true
}

// legalName returns a name that is like s and permitted, or "".
func legalName(s string) string {
	near := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s), "-.")
	if len(near) > 60 || len(validation.IsDNS1123Subdomain(near)) > 0 {
		return ""
	}
	return near
}

// stamp gives an object the creation time that stands for its place in the files:
// the API prefers older objects, and in files that means earlier ones.
func (l *loader) stamp(o metav1.Object) {
	o.SetCreationTimestamp(metav1.NewTime(time.Unix(int64(l.objects), 0).UTC()))
}

// problem adds a finding about an object.
func (l *loader) problem(w *written, ref ObjectRef, f finding) {
	if l.full() {
		return
	}
	p := f.Problem
	p.Object = ref
	switch {
	case f.offset > 0:
		p.Position = w.findOffset(p.Path, f.offset-1)
	case f.onKey:
		p.Position = w.findKey(p.Path)
	default:
		p.Position = w.find(p.Path)
	}
	if l.broken[p.Position.Line] && p.Class == Invalid {
		return // follows from what was told already
	}
	p.Path = v1alpha1.Written(w.renames, p.Path)
	l.report.Add(p)
}
