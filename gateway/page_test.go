package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Pages of foreign origins can't use the Gateway that is assumed on loopback, also not by a name that has come to
// mean this machine, unless a CORS policy or allowedOrigins of the Backend lets them.
func TestForeignPages(t *testing.T) {
	asked := 0
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`)
	}))
	defer provider.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(provider.URL, "http://"), ":")
	ai := func(more string) string {
		return "---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: model}\nspec: {type: AI, ai: {" + more + "llm: {host: " + host + ", port: " + port + ", openai: {authToken: {kind: Inline, inline: k}}}}}\n"
	}
	routes := route("r", "matches: [{path: {value: /s}}]\nbackendRefs: ["+to("s")+"]") +
		strings.Replace(route("named", "matches: [{path: {value: /s}}]\nbackendRefs: ["+to("s")+"]"), "spec:", "spec:\n  hostnames: [mine.example]", 1) +
		route("fixed", "matches: [{path: {value: /fixed}}]\nfilters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]")
	cors := "---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: pages}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]\n  cors: {allowOrigins: [\"https://app.example\"]}\n"
	files := map[string]string{
		"as it is":       ai("") + static("s", upstreamServer(t, "s")) + routes,
		"allowedOrigins": ai("allowedOrigins: [\"https://app.example\"], ") + static("s", upstreamServer(t, "s")) + routes,
		"CORS":           ai("") + static("s", upstreamServer(t, "s")) + routes + cors,
	}
	const llm = "/llm/model/v1/chat/completions"
	for _, tt := range []struct {
		file, method, path, host, origin string
		want                             int
	}{
		{"as it is", "POST", llm, "", "", 200},
		{"as it is", "POST", llm, "", "https://evil.example", 403},
		{"as it is", "POST", llm, "", "null", 403},
		{"as it is", "POST", llm, "evil.example:8080", "http://evil.example:8080", 403},
		{"as it is", "POST", llm, "host.docker.internal:8080", "", 200}, // no page
		{"as it is", "GET", "/llm/model/v1/models", "evil.example", "http://evil.example", 403},
		{"as it is", "POST", llm, "localhost:8080", "http://localhost:8080", 200},
		{"as it is", "POST", llm, "[::1]:8080", "http://localhost:5173", 200},
		{"as it is", "POST", "/s", "", "https://evil.example", 403},
		{"as it is", "POST", "/s", "evil.example", "http://evil.example", 403},
		{"as it is", "GET", "/s", "any.example", "", 200},
		{"as it is", "GET", "/s", "", "https://evil.example", 200},
		{"as it is", "POST", "/s", "mine.example", "http://mine.example", 200},
		{"as it is", "POST", "/s", "mine.example", "http://evil.example", 403},
		{"as it is", "POST", "/fixed", "", "http://evil.example", 403},
		{"as it is", "POST", "/fixed", "", "", 302},
		{"allowedOrigins", "POST", llm, "", "https://app.example", 200},
		{"allowedOrigins", "POST", llm, "app.example", "https://app.example", 200},
		{"allowedOrigins", "POST", llm, "", "https://evil.example", 403},
		{"allowedOrigins", "POST", "/s", "", "https://app.example", 403},
		{"CORS", "POST", "/s", "", "https://app.example", 200},
		{"CORS", "POST", llm, "", "https://app.example", 200},
		{"CORS", "POST", "/s", "", "https://evil.example", 403},
	} {
		t.Run(tt.file+" "+tt.method+" "+tt.path+" "+tt.host+" "+tt.origin, func(t *testing.T) {
			g := start(t, files[tt.file])
			asked = 0
			header := []string{"Content-Type", "text/plain"}
			if tt.host != "" {
				header = append(header, "Host", tt.host)
			}
			if tt.origin != "" {
				header = append(header, "Origin", tt.origin)
			}
			got := g.do(tt.method, g.url("8080", tt.path), strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`), header...)
			if got.Status != tt.want || (asked > 0) != (tt.want == 200 && tt.path == llm) {
				t.Errorf("%d %s, the provider was asked %d times", got.Status, got.Body, asked)
			}
		})
	}
	g := start(t, `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: written}
spec: {gatewayClassName: agentgateway, listeners: [{name: http, port: 8080, protocol: HTTP}]}
`+static("s", upstreamServer(t, "s"))+strings.Replace(route("r", "backendRefs: ["+to("s")+"]"), "spec:", "spec:\n  parentRefs: [{name: written}]", 1))
	if got := g.do("POST", g.url("8080", "/s"), nil, "Origin", "https://evil.example"); got.Status != 200 {
		t.Errorf("a Gateway that is written has no such check: %d %s", got.Status, got.Body)
	}
}
