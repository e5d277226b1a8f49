package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// load loads one file, and fails the test when it has problems.
func load(t *testing.T, text string) *Resources {
	t.Helper()
	res, report := LoadFiles([]File{{Name: "f.yaml", Text: []byte(text)}})
	if len(report.Problems) > 0 {
		t.Fatal(rendered(t, report, res.Positions.Sources(), Options{}))
	}
	return res
}

// codesOf returns the codes of a report, in its order.
func codesOf(r *Report) []string {
	var out []string
	for _, p := range r.Problems {
		out = append(out, p.Code)
	}
	return out
}

// asYAML returns an object as YAML.
func asYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Defaults are those of the Gateway API's own definitions.
func TestGatewayAPIDefaults(t *testing.T) {
	res := load(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners:
  - {name: a, protocol: HTTP, port: 80}
  - {name: b, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: s}]}, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  rules:
  - backendRefs: [{name: s, port: 80}, {name: b, kind: Backend, group: gateway.kgateway.dev, weight: 0}]
  - matches:
    - headers: [{name: h, value: v}]
    - path: {value: /a}
    - path: {type: Exact, value: /b}
    filters:
    - {type: RequestRedirect, requestRedirect: {hostname: example.com}}
    - {type: CORS, cors: {allowOrigins: ["*"]}}
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: empty}
spec: {}
`)
	const gateway = `gatewayClassName: c
listeners:
- allowedRoutes:
    namespaces:
      from: Same
  name: a
  port: 80
  protocol: HTTP
- allowedRoutes:
    kinds:
    - group: gateway.networking.k8s.io
      kind: HTTPRoute
    namespaces:
      from: Same
  name: b
  port: 443
  protocol: HTTPS
  tls:
    certificateRefs:
    - group: ""
      kind: Secret
      name: s
    mode: Terminate
`
	if diff := cmp.Diff(gateway, asYAML(t, res.Gateway("default", "g").Spec)); diff != "" {
		t.Error(diff)
	}
	const route = `parentRefs:
- group: gateway.networking.k8s.io
  kind: Gateway
  name: g
rules:
- backendRefs:
  - group: ""
    kind: Service
    name: s
    port: 80
    weight: 1
  - group: gateway.kgateway.dev
    kind: Backend
    name: b
    weight: 0
  matches:
  - path:
      type: PathPrefix
      value: /
- filters:
  - requestRedirect:
      hostname: example.com
      statusCode: 302
    type: RequestRedirect
  - cors:
      allowOrigins:
      - '*'
      maxAge: 5
    type: CORS
  matches:
  - headers:
    - name: h
      type: Exact
      value: v
    path:
      type: PathPrefix
      value: /
  - path:
      type: PathPrefix
      value: /a
  - path:
      type: Exact
      value: /b
- filters:
  - requestMirror:
      backendRef:
        group: ""
        kind: Service
        name: s
        port: 80
    type: RequestMirror
  matches:
  - path:
      type: PathPrefix
      value: /
`
	if diff := cmp.Diff(route, asYAML(t, res.HTTPRoute("default", "r").Spec)); diff != "" {
		t.Error(diff)
	}
	const empty = `rules:
- matches:
  - path:
      type: PathPrefix
      value: /
`
	if diff := cmp.Diff(empty, asYAML(t, res.HTTPRoute("default", "empty").Spec)); diff != "" {
		t.Error(diff)
	}
}

func TestCoreKinds(t *testing.T) {
	res := load(t, `
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: team}
data: {a: aGk=, b: eA==}
stringData: {b: y, c: "z "}
---
apiVersion: v1
kind: Service
metadata: {name: w}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: team, namespace: ignored, labels: {a: b}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: w}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: v}
`)
	secret := res.Secret("team", "s")
	if diff := cmp.Diff(map[string][]byte{"a": []byte("hi"), "b": []byte("y"), "c": []byte("z ")}, secret.Data); diff != "" || secret.StringData != nil || secret.Type != corev1.SecretTypeOpaque {
		t.Error(diff, secret)
	}
	port := res.Service("default", "w").Spec.Ports[0]
	if port.Protocol != corev1.ProtocolTCP || port.TargetPort.IntValue() != 80 {
		t.Errorf("%+v", port)
	}
	if diff := cmp.Diff(map[string]string{"a": "b", "kubernetes.io/metadata.name": "team"}, res.NamespaceLabels("team")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"kubernetes.io/metadata.name": "none"}, res.NamespaceLabels("none")); diff != "" {
		t.Error(diff)
	}
	if len(res.Slices("default", "w")) != 1 || len(res.Slices("team", "w")) != 0 {
		t.Error("the slices of the Service are not found")
	}
	if res.ConfigMap("default", "c") == nil || res.Secret("default", "s") != nil || res.Backend("default", "w") != nil ||
		res.Gateway("default", "w") != nil || res.DirectResponse("default", "w") != nil || res.GatewayExtension("default", "w") != nil {
		t.Error("lookups find what is not there, or not what is")
	}
	if !res.Local {
		t.Error("files are not local")
	}
}

// Earlier in the files is older, whatever the object says of itself.
func TestOrderIsAge(t *testing.T) {
	res := load(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: z, creationTimestamp: "2030-01-01T00:00:00Z"}
spec: {}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: a}
spec: {}
`)
	var routes []*gatewayv1.HTTPRoute = res.HTTPRoutes
	if routes[0].Name != "z" || !routes[0].CreationTimestamp.Before(&routes[1].CreationTimestamp) {
		t.Errorf("%s of %v before %s of %v", routes[0].Name, routes[0].CreationTimestamp, routes[1].Name, routes[1].CreationTimestamp)
	}
}

func TestFingerprint(t *testing.T) {
	const one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"
	base := load(t, one).Fingerprint
	for name, c := range map[string]struct {
		text string
		same bool
	}{
		"comments":       {"# c\n\n" + one + "# d\n---\n", true},
		"form":           {`{"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "v"}, "metadata": {"name": "a", "namespace": "default"}}`, true},
		"status":         {one + "status: {}\n", true},
		"a value":        {strings.Replace(one, "v}", "w}", 1), false},
		"a name":         {strings.Replace(one, "name: a", "name: b", 1), false},
		"another object": {one + "---\n" + strings.Replace(one, "name: a", "name: b", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(c.text, "status: {}\n", "", 1)
			if got := load(t, text).Fingerprint; (got == base) != c.same {
				t.Errorf("same is %v", got == base)
			}
		})
	}
	secret := func(value string) string {
		return load(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {k: "+value+"}\n").Fingerprint
	}
	backend := func(value string) string {
		res, _ := LoadFiles([]File{{Name: "f", Text: []byte(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: a}
spec: {mcp: {targets: [{name: a, static: {host: h, port: 80}, auth: {inline: ` + value + `}}]}}
`)}})
		return res.Fingerprint
	}
	if secret("a") == secret("b") || backend("a") == backend("b") {
		t.Error("another secret has the same fingerprint")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func namesOf(res *Resources) []string {
	var out []string
	for _, c := range res.ConfigMaps {
		out = append(out, c.Name)
	}
	return out
}

func TestLoadDirectories(t *testing.T) {
	dir := t.TempDir()
	for path, name := range map[string]string{
		"b.yaml": "b", "a.yml": "a", "c.json": "", "d.txt": "no", ".hidden.yaml": "no", "sub/e.yaml": "e", "sub2/f.yaml": "f",
		".git/g.yaml": "no", "sub/deep/h.yaml": "no", "sub/deep/i.txt": "no", "sub2/empty/j.txt": "no",
	} {
		text := configMap(name)
		if name == "" {
			text = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}`
		}
		write(t, filepath.Join(dir, path), text)
	}
	res, report := Load([]string{dir})
	if diff := cmp.Diff([]string{"a", "b", "c", "e", "f"}, namesOf(res)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{CodeTooDeepFolder}, codesOf(report)); diff != "" {
		t.Error(diff)
	}
	if got := report.Problems[0].Position; got.File != filepath.Join(dir, "sub", "deep") {
		t.Errorf("the warning is about %v", got)
	}

	t.Run("files in the order they are named, each once", func(t *testing.T) {
		res, report := Load([]string{filepath.Join(dir, "sub", "e.yaml"), filepath.Join(dir, "d.txt"), dir})
		if diff := cmp.Diff([]string{"e", "no", "a", "b", "c", "f"}, namesOf(res)); diff != "" {
			t.Error(diff, codesOf(report))
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		none := filepath.Join(dir, "none.yaml")
		_, report := Load([]string{none, filepath.Join(dir, "a.yml")})
		if diff := cmp.Diff([]string{CodeUnreadable}, codesOf(report)); diff != "" {
			t.Fatal(diff)
		}
		if p := report.Problems[0]; p.Position.File != none || p.Message != "can't be read: no such file or directory" || p.Class != Invalid {
			t.Errorf("%+v", p)
		}
	})
	t.Run("an empty directory", func(t *testing.T) {
		_, report := Load([]string{t.TempDir()})
		if diff := cmp.Diff([]string{CodeNoObjects}, codesOf(report)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a link to nothing", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.yaml"), configMap("a"))
		if err := os.Symlink("gone", filepath.Join(dir, "b.yaml")); err != nil {
			t.Fatal(err)
		}
		_, report := Load([]string{dir})
		if diff := cmp.Diff([]string{CodeUnreadable}, codesOf(report)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a duplicate in another file", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.yaml"), configMap("a"))
		write(t, filepath.Join(dir, "b.yaml"), configMap("a"))
		_, report := Load([]string{dir})
		if diff := cmp.Diff([]string{CodeDuplicateObject}, codesOf(report)); diff != "" {
			t.Fatal(diff)
		}
		if p := report.Problems[0]; p.Position.File != filepath.Join(dir, "b.yaml") || p.Related[0].Position.File != filepath.Join(dir, "a.yaml") {
			t.Errorf("%+v", p)
		}
	})
}

// numbered returns n times format.
func numbered(n int, format string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

// Each limit holds at the limit, and not one more.
func TestLimits(t *testing.T) {
	padded := func(size int) string {
		text := configMap("a")
		return text + strings.Repeat("#", size-len(text)-1) + "\n"
	}
	nested := func(depth int) string { // the map and its field are two levels
		return configMap("a") + "x: " + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "\n"
	}
	aliases := func(n int) string {
		return configMap("a") + "x: [&a b" + strings.Repeat(", *a", n) + "]\n"
	}
	expanded := func(n int) string { // a list of 999 is 1000 values
		list := "[" + strings.Repeat("1,", 998) + "1]"
		return configMap("a") + "x: [&a " + list + strings.Repeat(", *a", n/1000) + "]\n"
	}
	files := func(n int) []File {
		var out []File
		for i := range n {
			out = append(out, File{Name: fmt.Sprint(i), Text: []byte(configMap(fmt.Sprint("a", i)))})
		}
		return out
	}
	one := func(text string) []File { return []File{{Name: "f", Text: []byte(text)}} }
	for name, c := range map[string]struct {
		at, over []File
		code     string
	}{
		"bytes":             {one(padded(maxFile)), one(padded(maxFile + 1)), CodeFileTooLarge},
		"depth":             {one(nested(maxDepth)), one(nested(maxDepth + 1)), CodeDepth},
		"aliases":           {one(aliases(maxAliases)), one(aliases(maxAliases + 1)), CodeAliasLimit},
		"values":            {one(expanded(maxExpanded)), nil, ""},
		"values of aliases": {files(1), one(configMap("a") + "x: [&a [" + strings.Repeat("1,", 50_000) + "1], *a, *a]\n"), CodeAliasLimit},
		"keys":              {one(configMap("a") + "data: {" + strings.Repeat("k", maxKey) + ": v}\n"), one(configMap("a") + "data: {" + strings.Repeat("k", maxKey+1) + ": v}\n"), CodeKey},
	} {
		t.Run(name, func(t *testing.T) {
			if _, report := LoadFiles(c.at); c.code != "" && strings.Contains(strings.Join(codesOf(report), " "), c.code) {
				t.Errorf("refused at the limit: %v", codesOf(report))
			}
			if c.over == nil {
				return
			}
			if _, report := LoadFiles(c.over); !strings.Contains(strings.Join(codesOf(report), " "), c.code) {
				t.Errorf("not refused over the limit: %v", codesOf(report))
			}
		})
	}
	t.Run("problems", func(t *testing.T) {
		for name, text := range map[string]func(n int) string{
			"of one object": func(n int) string {
				return "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 80}]\n" + numbered(n, "  unknown%d: x\n")
			},
			"of an own kind": func(n int) string {
				return "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: DirectResponse\nmetadata: {name: a}\nspec:\n  status: 200\n" + numbered(n, "  unknown%d: x\n")
			},
			"of documents": func(n int) string { return configMap("a") + numbered(n, "---\na: [%d\n") },
			"of keys":      func(n int) string { return configMap("a") + "data:\n  k: v\n" + numbered(n, "  k: v%d\n") },
		} {
			for _, n := range []int{maxProblems - 1, maxProblems, maxProblems + 1} {
				_, report := LoadFiles(one(text(n)))
				codes := codesOf(report)
				if full := slices.Contains(codes, CodeTooManyProblems); full != (n > maxProblems) || len(codes) != n {
					if !full || len(codes) != maxProblems+1 {
						t.Errorf("%s: %d problems for %d, and full is %v", name, len(codes), n, full)
					}
				}
			}
		}
	})
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		for i := range maxFiles {
			write(t, filepath.Join(dir, fmt.Sprintf("%04d.yaml", i)), configMap(fmt.Sprint("a", i)))
		}
		res, report := Load([]string{dir})
		if len(res.ConfigMaps) != maxFiles || len(report.Problems) > 0 {
			t.Fatalf("%d objects, %v", len(res.ConfigMaps), codesOf(report))
		}
		write(t, filepath.Join(dir, "z.yaml"), configMap("z"))
		if _, report := Load([]string{dir}); !strings.Contains(strings.Join(codesOf(report), " "), CodeTooManyFiles) {
			t.Error(codesOf(report))
		}
	})
}

func TestLoadFilesReportsUnreadableText(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		at   string
	}{
		"not UTF-8":  {"a: b\nc: \xff\n", "f:2:4"},
		"UTF-16":     {"\xff\xfea\x00:\x00", "f:1:1"},
		"NUL":        {"a: \x00\n", "f:1:4"},
		"in a quote": {"a: \"\x1b\"\n", "f:1:5"},
	} {
		t.Run(name, func(t *testing.T) {
			_, report := LoadFiles([]File{{Name: "f", Text: []byte(c.text)}})
			if diff := cmp.Diff([]string{CodeEncoding}, codesOf(report)); diff != "" {
				t.Fatal(diff)
			}
			if got := report.Problems[0].Position.String(); got != c.at {
				t.Errorf("at %s, want %s", got, c.at)
			}
		})
	}
	if res := load(t, configMap("a")+"data: {k: \"\uFFFD\"}\n"); res.ConfigMaps[0].Data["k"] != "\uFFFD" {
		t.Error("the replacement character itself is refused")
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"host", "path", "port", "protocol", "prefixMode", "name", "namespace"}
	for word, want := range map[string]string{
		"prot": "port", "hots": "host", "hostname": "host", "PORT": "port", "prefix_mode": "prefixMode", "prefixmod": "prefixMode",
		"colour": "", "protcol": "protocol", "nam": "name", "x": "", "": "", strings.Repeat("p", 100): "",
	} {
		if got := Suggest(word, known); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xbc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// One run tells of all mistakes, also of those that are found later in other objects.
func TestCheckRest(t *testing.T) {
	res, report := LoadFiles([]File{{Name: "f", Text: []byte(configMap("a") + "data: 1\n---\n" + configMap("b") + "---\n" + configMap("c"))}})
	obj := func(name string) ObjectRef { return ObjectRef{"ConfigMap", "default", name} }
	res.CheckRest(report, func(rest *Resources) *Report {
		if diff := cmp.Diff([]string{"b", "c"}, namesOf(rest)); diff != "" {
			t.Error(diff)
		}
		if rest.Positions != res.Positions || !rest.Local {
			t.Error("the rest is of another kind")
		}
		return &Report{Problems: []Problem{
			{Class: Invalid, Code: CodeExpression, Object: obj("b")},
			{Class: Unresolved, Code: CodeUnresolvedBackend, Object: obj("c")},
			{Class: Invalid, Code: CodeExpression, Object: obj("a")},
		}}
	})
	if diff := cmp.Diff([]string{CodeType, CodeExpression}, codesOf(report)); diff != "" {
		t.Error(diff)
	}
}
