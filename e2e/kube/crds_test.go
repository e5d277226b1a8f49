package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/testkind"
)

// administrator returns a client that may do everything.
func administrator(t testing.TB) client.Client {
	t.Helper()
	c, err := client.New(plane.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// object completes YAML without apiVersion and kind.
func object(t testing.TB, namespace, kind, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(namespace)
	if o.GetName() == "" {
		o.SetName("x")
	}
	return o
}

// create has the API server check an object, which it does not keep, with all of its fields known.
func create(c client.Client, o *unstructured.Unstructured) error {
	return c.Create(context.Background(), o, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
}

// TestRules has the API server look at every mistake of the table, and at what just is none: each
// validation rule of the definitions refuses something, with its own message.
func TestRules(t *testing.T) {
	c, namespace := administrator(t), namespaceOf(t)
	unheard := map[string]bool{} // messages of rules
	var each func(s *apiextensionsv1.JSONSchemaProps, kind string)
	each = func(s *apiextensionsv1.JSONSchemaProps, kind string) {
		for _, r := range s.XValidations {
			if r.Message == "" {
				t.Errorf("%s: the rule %q has no message", kind, r.Rule)
			}
			unheard[kind+": "+r.Message] = true
		}
		for _, p := range s.Properties {
			each(&p, kind)
		}
		if s.Items != nil {
			each(s.Items.Schema, kind)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			each(s.AdditionalProperties.Schema, kind)
		}
	}
	for _, crd := range v1alpha1.CRDs() {
		each(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, crd.Spec.Names.Kind)
	}
	rules := len(unheard)
	refused := 0
	for _, r := range testkind.Rules() {
		if err := create(c, object(t, namespace, r.Kind, r.Good)); err != nil {
			t.Errorf("%s %s: %v", r.Kind, r.Good, err)
		}
		err := create(c, object(t, namespace, r.Kind, r.Bad))
		if err == nil {
			continue // what only Go code can see: TestBroken
		}
		refused++
		maps.DeleteFunc(unheard, func(rule string, _ bool) bool {
			kind, message, _ := strings.Cut(rule, ": ")
			return kind == r.Kind && strings.Contains(err.Error(), message)
		})
	}
	for _, rule := range slices.Sorted(maps.Keys(unheard)) {
		t.Errorf("nothing is refused by the rule of %s", rule)
	}
	t.Logf("%d rules; the API server refuses %d of %d mistakes", rules, refused, len(testkind.Rules()))
}

// TestSpellings has the API server keep every field of objects in every spelling.
func TestSpellings(t *testing.T) {
	c, namespace := administrator(t), namespaceOf(t)
	for _, s := range testkind.Spellings() {
		for i, text := range append(s.Others, s.Canonical) {
			text = strings.ReplaceAll(text, "namespace: ns1}\n", "namespace: "+namespace+"}\n")
			text = strings.ReplaceAll(text, "namespace: ns1}}", "namespace: "+namespace+"}}")
			if err := create(c, object(t, namespace, s.Kind, text)); err != nil {
				t.Errorf("%s, %d: %v\n%s", s.Name, i, err, text)
			}
		}
	}
}

// TestExplain has kubectl explain fields.
func TestExplain(t *testing.T) {
	for field, want := range map[string]string{
		"backend":                                  "A Backend is what an HTTPRoute can send requests to beside a Service",
		"backend.spec.mcp.targets.service":         "",
		"backend.spec.ai.groups":                   "Another spelling of priorityGroups",
		"trafficpolicy.spec.rbac.policy":           "",
		"httplistenerpolicy.spec.accessLog":        "",
		"backendconfigpolicy.spec.tls":             "",
		"directresponse.spec.status":               "The HTTP status, 200 to 599",
		"gatewayextension.spec.extAuth":            "",
		"gatewayparameters.spec.kube.agentgateway": "",
		"backend.status.conditions":                "What became of the object",
	} {
		out := kubectl(t, "explain", field)
		if strings.Contains(out, "<empty>") || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("kubectl explain %s says not %q:\n%s", field, want, out)
		}
	}
	for _, kind := range v1alpha1.Kinds() {
		out := kubectl(t, "explain", strings.ToLower(kind), "--recursive")
		if !strings.Contains(out, "spec") {
			t.Errorf("kubectl explain %s --recursive:\n%s", kind, out)
		}
	}
	if out := kubectl(t, "api-resources", "--categories=kgateway", "--no-headers"); strings.Count(out, "\n") != len(v1alpha1.Kinds()) {
		t.Errorf("kinds of the category kgateway:\n%s", out)
	}
}
