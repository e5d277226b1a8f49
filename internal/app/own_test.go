package app

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/config"
)

func TestAdminServesThisMachineOnly(t *testing.T) {
	s := httptest.NewServer(admin(func() *config.Resources { return nil }))
	defer s.Close()
	tests := []struct {
		path, host, origin string
		want               int
	}{
		{"/debug/pprof/symbol", "", "", http.StatusOK},
		{"/debug/pprof/cmdline", "", "", http.StatusNotFound}, // it can hold secrets
		{"/debug/pprof/symbol", "localhost:15000", "", http.StatusOK},
		{"/debug/pprof/symbol", "127.1.2.3", "", http.StatusOK},
		{"/debug/pprof/symbol", "[::1]:15000", "", http.StatusOK},
		{"/debug/pprof/symbol", "rebound.example:15000", "", http.StatusForbidden},
		{"/debug/pprof/symbol", "192.0.2.1", "", http.StatusForbidden},
		{"/debug/pprof/symbol", "localhost.example", "", http.StatusForbidden},
		{"/debug/pprof/symbol", "localhost:15000", "http://localhost:15000", http.StatusForbidden},
		{"/config", "", "", http.StatusServiceUnavailable}, // nothing is served yet
		{"/", "", "", http.StatusNotFound},
	}
	for _, test := range tests {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = test.host
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != test.want {
			t.Errorf("%s, Host %q, Origin %q: %d, want %d", test.path, test.host, test.origin, response.StatusCode, test.want)
		}
	}
}

func TestReadiness(t *testing.T) {
	for ready, want := range map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable} {
		handler := readiness(func() bool { return ready })
		for path, want := range map[string]int{"/readyz": want, "/livez": http.StatusOK, "/": http.StatusNotFound} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("ready %v: %s answers %d, want %d", ready, path, w.Code, want)
			}
		}
	}
}

func TestOwnFallsBackAndCloses(t *testing.T) {
	var log strings.Builder
	o := &own{logger: slog.New(slog.NewTextHandler(&log, nil))}
	blocker := &own{logger: slog.New(slog.DiscardHandler)}
	defer blocker.close()
	l, _, err := listenOwn("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	busy := l.Addr().String()
	defer l.Close()
	if err := o.open("tests", busy, busy, http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	if err := o.open("tests", busy, "127.0.0.1:1", http.NotFoundHandler()); err == nil {
		t.Error("a busy address that was asked for is given up in silence")
	}
	if err := o.open("nothing", Off, busy, nil); err != nil {
		t.Errorf("off: %v", err)
	}
	o.close()
	if !strings.Contains(log.String(), "the default port is busy") {
		t.Errorf("the log says nothing of the busy port:\n%s", log.String())
	}
}

const confidential = `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools, annotations: {note: canary-annotation}}
spec:
  type: MCP
  mcp:
    targets:
    - {name: web, auth: {kind: Inline, inline: canary-inline}, static: {host: 127.0.0.1, port: 3001}}
    - {name: child, stdio: {command: server, args: [--token, canary-argument], env: {TOKEN: canary-environment}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Api-Key, value: canary-header}, {name: X-Shown, value: shown-header}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: tools}]
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: canary-secret}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {file: canary-configmap}
`

func TestDumpKeepsSecrets(t *testing.T) {
	res, report := config.LoadFiles([]config.File{{Name: "f.yaml", Text: []byte(confidential)}})
	if report.Has(config.Invalid) {
		t.Fatal(report.Problems)
	}
	data, err := dump(res)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{`"shown-header"`, `"X-Api-Key"`, `"password"`, `"tools"`, `"server"`, `3001`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in the dump", want)
		}
	}
	if i := strings.Index(text, "canary"); i >= 0 {
		t.Errorf("the dump has …%s…", text[max(0, i-100):min(len(text), i+40)])
	}
	if got := res.Secrets[0].StringData["password"] + string(res.Secrets[0].Data["password"]); got != "canary-secret" {
		t.Errorf("dumping changed what is served: %q", got)
	}
}
