package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A kind is a kind of object that is read.
type kind struct {
	group      string
	versions   []string // those that have the form of the first
	kind       string
	namespaced bool
	label      bool // names have no dots
	read       func(l *loader, w *written, ref ObjectRef, m map[string]any)
}

// kinds returns the kinds that are read.
func kinds() []kind {
	gw, old := gatewayv1.GroupName, []string{"v1", "v1beta1"}
	out := []kind{
		{gw, old, "GatewayClass", false, false, into(func(r *Resources) *[]*gatewayv1.GatewayClass { return &r.GatewayClasses })},
		{gw, old, "Gateway", true, false, into(func(r *Resources) *[]*gatewayv1.Gateway { return &r.Gateways })},
		{gw, []string{"v1"}, "ListenerSet", true, false, into(func(r *Resources) *[]*gatewayv1.ListenerSet { return &r.ListenerSets })},
		{gw, old, "HTTPRoute", true, false, into(func(r *Resources) *[]*gatewayv1.HTTPRoute { return &r.HTTPRoutes })},
		{gw, []string{"v1", "v1alpha2"}, "GRPCRoute", true, false, into(func(r *Resources) *[]*gatewayv1.GRPCRoute { return &r.GRPCRoutes })},
		{gw, old, "ReferenceGrant", true, false, into(func(r *Resources) *[]*gatewayv1.ReferenceGrant { return &r.ReferenceGrants })},
		{gw, []string{"v1", "v1alpha3"}, "BackendTLSPolicy", true, false, into(func(r *Resources) *[]*gatewayv1.BackendTLSPolicy { return &r.BackendTLS })},

		{"", []string{"v1"}, "Service", true, true, into(func(r *Resources) *[]*corev1.Service { return &r.Services })},
		{"", []string{"v1"}, "Secret", true, false, into(func(r *Resources) *[]*corev1.Secret { return &r.Secrets })},
		{"", []string{"v1"}, "ConfigMap", true, false, into(func(r *Resources) *[]*corev1.ConfigMap { return &r.ConfigMaps })},
		{"", []string{"v1"}, "Namespace", false, true, into(func(r *Resources) *[]*corev1.Namespace { return &r.Namespaces })},
		{"discovery.k8s.io", []string{"v1"}, "EndpointSlice", true, false, into(func(r *Resources) *[]*discoveryv1.EndpointSlice { return &r.EndpointSlices })},
	}
	for _, k := range v1alpha1.Kinds() {
		out = append(out, kind{v1alpha1.GroupName, []string{v1alpha1.GroupVersion.Version}, k, true, false, readOwn})
	}
	return out
}

// apiVersion returns how the kind is written.
func (k *kind) apiVersion() string {
	if k.group == "" {
		return k.versions[0]
	}
	return k.group + "/" + k.versions[0]
}

// kind finds out what m is, or reports that it can't be used.
func (l *loader) kind(w *written, m map[string]any) (kind, bool) {
	apiVersion, hasVersion := m["apiVersion"].(string)
	name, hasKind := m["kind"].(string)
	problem := func(class Class, code, path, message string) *Problem {
		l.report.Add(Problem{Class: class, Code: code, Path: path, Position: w.find(path), Message: message})
		return &l.report.Problems[len(l.report.Problems)-1]
	}
	known := kinds()
	switch {
	case m["mcpServers"] != nil && !hasKind:
		problem(Invalid, CodeMissingKind, "mcpServers", "this is the configuration of an MCP client, not of mcpgw").Help = "mcpgw run --mcp-config FILE imports it"
		return kind{}, false
	case !hasKind && !hasVersion:
		p := problem(Invalid, CodeMissingKind, "", "`apiVersion` and `kind` are missing")
		p.Position = w.src.rest(w.root.line, w.root.column)
		p.Help = "write what the object is, such as apiVersion: " + v1alpha1.GroupVersion.String() + " and kind: Backend"
		return kind{}, false
	case !hasKind || name == "":
		problem(Invalid, CodeMissingKind, "kind", "`kind` is missing")
		return kind{}, false
	case !hasVersion || apiVersion == "":
		p := problem(Invalid, CodeMissingKind, "kind", "`apiVersion` is missing")
		if i := slices.IndexFunc(known, func(k kind) bool { return k.kind == name }); i >= 0 {
			p.Label = "write apiVersion: " + known[i].apiVersion()
		}
		return kind{}, false
	}
	group, version := "", apiVersion
	if g, v, ok := strings.Cut(apiVersion, "/"); ok {
		group, version = g, v
	}
	var ofGroup, groups, words []string
	for _, k := range known {
		if k.group == group && k.kind == name {
			if slices.Contains(k.versions, version) {
				return k, true
			}
			problem(Invalid, CodeUnknownVersion, "apiVersion", fmt.Sprintf("`%s` is no version of kind %s that mcpgw reads", version, name)).Label = "write " + k.apiVersion()
			return kind{}, false
		}
		if k.group == group {
			ofGroup = append(ofGroup, k.kind)
		}
		groups, words = append(groups, k.apiVersion()), append(words, k.kind)
	}
	if group == gatewayv1.GroupName && slices.Contains([]string{"TCPRoute", "TLSRoute", "UDPRoute"}, name) || name == "XListenerSet" {
		p := problem(Unresolved, CodeUnservedKind, "kind", "kind "+name+" is not served")
		p.Help = "it is left out"
		if name == "XListenerSet" {
			p.Help = "write kind: ListenerSet with apiVersion: " + gatewayv1.GroupName + "/v1"
		}
		return kind{}, false
	}
	if near := Suggest(name, ofGroup); near != "" && (strings.EqualFold(near, name) || group != "" || distance(near, name) <= 2) {
		problem(Invalid, CodeUnknownKind, "kind", fmt.Sprintf("there is no kind `%s` in %s", name, apiVersion)).Label = "did you mean `" + near + "`?"
		return kind{}, false
	}
	switch {
	case len(ofGroup) == 0 && slices.Contains(words, name): // the right kind of another group
		i := slices.Index(words, name)
		problem(Invalid, CodeUnknownVersion, "apiVersion", fmt.Sprintf("there is no kind `%s` in %s", name, apiVersion)).Label = "write " + groups[i]
	case group == "agentgateway.dev":
		problem(Invalid, CodeUnknownVersion, "apiVersion", "agentgateway.dev is another API than that of mcpgw").Help = "kinds of " + v1alpha1.GroupVersion.String() + ": " + listed(v1alpha1.Kinds())
	case group == v1alpha1.GroupName || group == gatewayv1.GroupName:
		problem(Invalid, CodeUnknownKind, "kind", fmt.Sprintf("there is no kind `%s` in %s", name, apiVersion)).Help = "kinds of " + group + ": " + listed(ofGroup)
	case group == "" && version == "v1", !strings.Contains(group, "."), strings.HasSuffix(group, ".k8s.io"):
		problem(Warning, CodeIgnoredKind, "kind", fmt.Sprintf("kind %s of %s is not used by mcpgw", name, apiVersion)).Help = "it is left out"
		l.objects++
	default:
		slices.Sort(groups)
		p := problem(Invalid, CodeUnknownVersion, "apiVersion", fmt.Sprintf("mcpgw reads no kinds of `%s`", apiVersion))
		groups = slices.Compact(groups)
		if near := Suggest(apiVersion, groups); near != "" {
			p.Label = "did you mean `" + near + "`?"
		} else {
			p.Help = "it reads those of " + listed(groups)
		}
	}
	return kind{}, false
}

// into returns how to read objects of a type of Kubernetes or the Gateway API.
func into[T any, P interface {
	*T
	metav1.Object
}](list func(*Resources) *[]P) func(*loader, *written, ObjectRef, map[string]any) {
	return func(l *loader, w *written, ref ObjectRef, m map[string]any) {
		c := &checker{rules: l.rules, removed: map[string]bool{}}
		c.object("", reflect.TypeFor[T](), m)
		for _, f := range c.found {
			l.problem(w, ref, f)
		}
		o := P(new(T))
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(withoutNil(m).(map[string]any), o); err != nil {
			if len(c.found) == 0 {
				l.problem(w, ref, finding{Problem: Problem{Class: Invalid, Code: CodeType, Message: "the object is not of the form of its kind"}})
			}
			return
		}
		l.stamp(o)
		if s, ok := any(o).(*corev1.Secret); ok {
			secretData(s)
		}
		to := list(l.out)
		*to = append(*to, o)
	}
}

// withoutNil returns v with zero values for items of lists that had a wrong type:
// they were reported, and the rest is to be checked.
func withoutNil(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = withoutNil(v[k])
		}
	case []any:
		return slices.DeleteFunc(v, func(item any) bool { return withoutNil(item) == nil })
	}
	return v
}

// secretData does what the API server does: stringData is data that needs no
// base64.
func secretData(s *corev1.Secret) {
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
}

// readOwn reads an object of [v1alpha1].
func readOwn(l *loader, w *written, ref ObjectRef, m map[string]any) {
	var conflicts []v1alpha1.Conflict
	w.renames, conflicts = v1alpha1.Normalize(ref.Kind, m)
	for _, c := range conflicts {
		l.report.Add(Problem{
			Class: Invalid, Code: CodeConflict, Object: ref, Path: c.Path, Position: w.literal(c.Path), Message: c.Message,
		})
	}
	meant := map[string]bool{}
	for _, u := range v1alpha1.UnknownFields(ref.Kind, m) {
		path := u.Path
		if l.full() {
			return
		}
		if slices.ContainsFunc(conflicts, func(c v1alpha1.Conflict) bool { return c.Path == v1alpha1.Written(w.renames, path) }) {
			continue
		}
		name := last(path)
		if parent := w.parent(path); parent != "" {
			name = path[len(parent)+1:]
		}
		f := finding{onKey: true, Problem: Problem{Class: Invalid, Code: CodeUnknownField, Path: path, Message: fmt.Sprintf("unknown field `%s`%s", name, noun(ref.Kind, path))}}
		near := Suggest(name, u.Known)
		if near != "" {
			f.Label = "did you mean `" + near + "`?"
			meant[strings.TrimSuffix(path, name)+near] = true
		}
		in := itemNumber.ReplaceAllString(ref.Kind+"."+strings.TrimSuffix(path, "."+name), "")
		switch _, documented := v1alpha1.Describe(in); {
		case documented && (near != "" || len(u.Known) > 24):
			f.Help = "mcpgw explain " + in
		case len(u.Known) > 0:
			f.Help = "known fields: " + listed(u.Known)
		}
		l.problem(w, ref, f)
	}
	o, errs := v1alpha1.Parse(ref.Kind, m)
	for _, e := range errs {
		if meant[e.Field] {
			continue // the field that was misspelt is not missing as well
		}
		f := fieldProblem(e)
		if known, ok := v1alpha1.KnownFields(ref.Kind, e.Field); ok && f.Code == CodeType && len(known) <= 24 {
			f.Help = "its fields are " + listed(known)
		}
		l.problem(w, ref, f)
	}
	l.inlineSecrets(w, ref, m, "")
	l.stamp(o.(metav1.Object))
	l.out.Add(o)
}

// inlineSecrets warns of credentials that stand in the object.
func (l *loader) inlineSecrets(w *written, ref ObjectRef, m map[string]any, path string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		at := child(path, k)
		if k == "jwks" {
			continue // keys that are public
		}
		switch v := m[k].(type) {
		case string:
			if k == "inline" && v != "" {
				l.problem(w, ref, finding{onKey: true, Problem: Problem{
					Class: Warning, Code: CodeInlineSecret, Path: at, Message: "a credential stands in the file",
					Help: "put it in a Secret under the key Authorization, and refer to it with secretRef",
				}})
			}
		case map[string]any:
			l.inlineSecrets(w, ref, v, at)
		case []any:
			for i := range v {
				if item, ok := v[i].(map[string]any); ok {
					l.inlineSecrets(w, ref, item, index(at, i))
				}
			}
		}
	}
}

// literal returns the position of the field at path, which is as it was written.
func (w *written) literal(path string) Position {
	return (&written{src: w.src, root: w.root}).findKey(path)
}

// parent returns the path of the object that the field at path is in, by what was
// written: names of fields may have dots.
func (w *written) parent(path string) string {
	written := v1alpha1.Written(w.renames, path)
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if n := w.root.field(v1alpha1.Written(w.renames, path[:i])); n != nil && n.fields[path[i+1:]] != nil && strings.HasSuffix(written, path[i+1:]) {
			return path[:i]
		}
	}
	return ""
}
