package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const onModel = `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: %NAME%}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: model%SECTION%}]
`

// onBackend returns a TrafficPolicy on the Backend named model, or on a provider of it.
func onBackend(name, section, spec string) string {
	if section != "" {
		section = ", sectionName: " + section
	}
	return strings.NewReplacer("%NAME%", name, "%SECTION%", section).Replace(onModel) + spec + "\n"
}

// post sends JSON and returns the status and the body of the answer.
func post(t testing.TB, url, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// Field defaults and enrichment of policies on a Backend, its route, and the Gateway.
func TestPolicyOnModel(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {inline: k}}")+onBackend("defaults", "", `
  ai: {fieldDefaults: [{path: temperature, value: "0.5"}, {path: max_tokens, value: "100", override: true}, {path: user, value: alice}]}
`)+onBackend("enrichment", "", `
  ai: {promptEnrichment: {prepend: [{role: SYSTEM, content: A}, {role: system, content: B}], append: [{role: user, content: C}]}}
`)+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: hidden}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  ai: {fieldDefaults: [{path: seed, value: 1}]}
`)
	status, body, _ := post(t, g.url("8080", "/llm/model"), `{"model":"m","messages":[{"role":"user","content":"X"}],"temperature":1,"max_tokens":5}`)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, _, sent := s.seen()
	if want := `{"model":"m","messages":[{"role":"system","content":"A"},{"role":"system","content":"B"},{"role":"user","content":"X"},{"role":"user","content":"C"}],"temperature":1,"max_tokens":100,"user":"alice"}`; sent != want {
		t.Errorf("the provider gets %s", sent)
	}
}

// Rules on a Backend of type AI, and on one of its providers, keep out whom they don't name.
func TestRulesOnModel(t *testing.T) {
	first, second := newOpenAIServer(t), newOpenAIServer(t)
	g := start(t, `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  ai:
    priorityGroups:
    - providers: [{name: first, host: "`+first.host+`", port: `+first.port+`, openai: {authToken: {inline: k}, model: one}}]
    - providers: [{name: second, host: "`+second.host+`", port: `+second.port+`, openai: {authToken: {inline: k}, model: two}}]
`+onBackend("all", "", `
  rbac: {policy: {matchExpressions: ["has(request.headers['x-key'])"]}}
`)+onBackend("one", "first", `
  rbac: {action: Deny, policy: {matchExpressions: ["request.headers['x-key'] != 'gold'"]}}
  ai: {fieldDefaults: [{path: user, value: first}]}
`))
	const hello = `{"messages":[{"role":"user","content":"hi"}]}`
	status, body, _ := post(t, g.url("8080", "/llm/model"), hello)
	if status != 403 || first.body != nil || second.body != nil {
		t.Errorf("without the header: %d %s", status, body)
	}
	if status, body, _ = post(t, g.url("8080", "/llm/model"), hello, "X-Key", "tin"); status != 200 || first.body != nil {
		t.Errorf("who may not use the first: %d %s", status, body)
	}
	if _, _, _, sent := second.seen(); sent != `{"messages":[{"role":"user","content":"hi"}],"model":"two"}` {
		t.Errorf("the second gets %s", sent)
	}
	if status, body, _ = post(t, g.url("8080", "/llm/model"), hello, "X-Key", "gold"); status != 200 {
		t.Errorf("who may use the first: %d %s", status, body)
	}
	var sent map[string]any
	_, _, _, raw := first.seen()
	if err := json.Unmarshal([]byte(raw), &sent); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{"model": "one", "user": "first", "messages": []any{map[string]any{"role": "user", "content": "hi"}}}, sent); d != "" {
		t.Error(d)
	}
}
