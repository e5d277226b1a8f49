package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config"
)

// TestSecretsOf shows which Secrets an object refers to.
func TestSecretsOf(t *testing.T) {
	var obj any
	if err := yaml.Unmarshal([]byte(`
ai: {priorityGroups: [{providers: [{openai: {authToken: {secretRef: {name: a}}}}, {bedrock: {auth: {secretRef: {name: b}}}}]}]}
apiKeyAuthentication: {secretSelector: {matchLabels: {x: "1", z: "2"}}}
other: {secretSelector: {matchLabels: {}}, secretRef: {name: ""}, name: c}
`), &obj); err != nil {
		t.Fatal(err)
	}
	got := map[reference]bool{}
	secretsOf("ns", obj, got)
	want := map[reference]bool{{namespace: "ns", name: "a"}: true, {namespace: "ns", name: "b"}: true, {namespace: "ns", labels: "x=1,z=2"}: true}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reference{})); diff != "" {
		t.Error(diff)
	}
}

// TestFollow shows that each Secret is asked for by name, that none is asked for that nothing refers to
// any more, and that there is a limit.
func TestFollow(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/")+"?"+r.URL.Query().Get("fieldSelector")+r.URL.Query().Get("labelSelector")] = true
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "" && r.URL.Query().Get("sendInitialEvents") == "" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		if r.URL.Query().Get("sendInitialEvents") != "" { // an API server that can't send lists as streams
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonInvalid, Code: 422}) // in a test
			return
		}
		name, _ := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		_ = json.NewEncoder(w).Encode(corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: "1"}}}}) // in a test
	}))
	defer server.Close()
	clients, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	r := newReferences(clients.CoreV1().RESTClient(), func() {}, func(_ context.Context, _ *toolscache.Reflector, err error) { t.Log(err) })
	names := func() (out []string) {
		res := &config.Resources{}
		r.found(res)
		for _, s := range res.Secrets {
			out = append(out, s.Name)
		}
		return out
	}
	if !r.follow(t.Context(), map[reference]bool{{namespace: "ns", name: "a"}: true}) {
		t.Error("one Secret is too many")
	}
	if diff := cmp.Diff([]string{"a"}, names()); diff != "" {
		t.Error(diff)
	}
	r.follow(t.Context(), map[reference]bool{{namespace: "ns", name: "b"}: true})
	if diff := cmp.Diff([]string{"b"}, names()); diff != "" {
		t.Error(diff)
	}
	mu.Lock()
	if diff := cmp.Diff(map[string]bool{"ns/secrets?metadata.name=a": true, "ns/secrets?metadata.name=b": true}, asked); diff != "" {
		t.Errorf("what was asked for: %s", diff)
	}
	mu.Unlock()
	r.close()

	r.watched = map[reference]*watchedReference{}
	many := map[reference]bool{}
	never, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for them
	for i := range maxReferences {
		many[reference{namespace: "ns", name: fmt.Sprint(i)}] = true
	}
	if !r.follow(never, many) || len(r.watched) != maxReferences {
		t.Errorf("of %d Secrets %d are followed", maxReferences, len(r.watched))
	}
	many[reference{namespace: "ns", name: "zzz"}] = true
	if r.follow(never, many) || len(r.watched) != maxReferences {
		t.Errorf("of %d Secrets %d are followed", maxReferences+1, len(r.watched))
	}
	r.close()
}
