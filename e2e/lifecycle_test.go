package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestDrain ends the gateway under open streams and a call in flight: the call is
// answered, the streams end, the process exits with 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string { return manifest(port, static("demo", demo, "/demo/mcp")) }, "--drain-timeout", "45s")
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, len(revisions))
	for _, revision := range revisions {
		started := make(chan struct{}, 100)
		c := connect(t, g.url(), clientOptions{revision: revision, progress: func(*mcp.ProgressNotificationParams) { started <- struct{}{} }})
		go func() {
			params := &mcp.CallToolParams{Name: "demo_slow", Arguments: map[string]any{"steps": 20, "interval_ms": 100}}
			params.SetProgressToken("p")
			result, err := c.CallTool(t.Context(), params)
			if err != nil {
				answers <- answer{err: fmt.Errorf("%s: %w", revision, err)}
				return
			}
			answers <- answer{text: resultText(result)}
		}()
		select {
		case <-started:
		case <-time.After(testgateway.Patience):
			t.Fatalf("the call at %s does not start", revision)
		}
	}
	if code := g.Terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for range revisions {
		got := <-answers
		if got.err != nil || got.text != "took 20 steps" {
			t.Errorf("a call in flight at SIGTERM answers %q, %v", got.text, got.err)
		}
	}
	if _, err := http.Get(g.url()); err == nil {
		t.Error("the port is still open")
	}
}

// TestSecretsStayInside runs a gateway at log level debug with a secret in every place that
// takes one, and searches all it prints for any form of them.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	var authorized sync.Map // the Authorization headers that targets got
	target, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", demo))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorized.Store(r.Header.Get("Authorization"), true)
		r.URL.Scheme, r.URL.Host, r.RequestURI = target.Scheme, target.Host, ""
		r.Host = target.Host
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		for name, values := range response.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	canaries := map[string]string{
		"inline token":      "canary-inline-5f1e0a",
		"token of a Secret": "canary-secret-77ab31",
		"environment":       "canary-environ-c0ffee",
		"client's own":      "canary-client-13579b",
		"session key":       strings.Repeat("c0de", 16),
		"unused Secret":     "canary-unused-2468ac",
		"API key":           "canary-apikey-d00d1e",
		"metadata of a key": "canary-metadata-5eed",
		"hash of a user":    "W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
		"hash in a Secret":  "$apr1$QJ0w9pkc$K.0bRiQcU.H6odikvQDpL/",
		"wrong password":    "canary-password-bad0",
		"unknown key":       "canary-unknown-key-1",
		"unknown token":     "canary-token-beefed",
	}
	admin := testgateway.FreeAddress(t)
	g := startGateway(t, "serve", []string{"MCPGW_SESSION_KEYS=" + canaries["session key"]}, func(port int) string {
		return manifest(port,
			fmt.Sprintf("{name: inline, auth: {kind: Inline, inline: %s}, static: {host: 127.0.0.1, port: %s, path: /demo/mcp}}", canaries["inline token"], u.Port()),
			fmt.Sprintf("{name: secret, auth: {kind: SecretRef, secretRef: {name: token}}, static: {host: 127.0.0.1, port: %s, path: /notes/mcp}}", u.Port()),
			fmt.Sprintf("{name: child, timeout: 30s, stdio: {command: %q, args: [%q], env: {TOKEN: %s}}}", node(t),
				npmScript(t, "@modelcontextprotocol", "server-memory", "dist", "index.js"), canaries["environment"]),
		) + `---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {Authorization: "Bearer ` + canaries["token of a Secret"] + `"}
---
apiVersion: v1
kind: Secret
metadata: {name: unused}
data: {other: ` + base64.StdEncoding.EncodeToString([]byte(canaries["unused Secret"])) + `}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {one: '{"key": "` + canaries["API key"] + `", "metadata": {"note": "` + canaries["metadata of a key"] + `"}}'}
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {.htaccess: "bob:` + canaries["hash in a Secret"] + `"}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: keys}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  apiKeyAuthentication: {secretRef: {name: keys}, location: {header: {name: x-api-key}}}
  basicAuthentication: {mode: Optional, users: ["alice:{SHA}` + canaries["hash of a user"] + `"]}
  jwtAuthentication:
    mode: Optional
    location: {header: {name: x-token}}
    providers: [{issuer: i, audiences: [a], jwks: {inline: '{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'}}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: users}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default, sectionName: http}]
  basicAuthentication: {mode: Optional, secretRef: {name: users}}
`
	}, "--admin-addr", admin)
	for _, header := range [][]string{
		{"X-Api-Key", canaries["unknown key"]},
		{"X-Api-Key", canaries["API key"], "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:"+canaries["wrong password"]))},
		{"X-Api-Key", canaries["API key"], "X-Token", canaries["unknown token"]},
	} {
		if status, answer, _ := raw(t, http.MethodPost, g.url(), initialize, header...); status != http.StatusUnauthorized {
			t.Errorf("%v: %d %s", header, status, answer)
		}
	}

	var bodies []string
	for _, revision := range revisions {
		c := connect(t, g.url(), clientOptions{revision: revision, header: http.Header{
			"Authorization": {"Bearer " + canaries["client's own"]}, "X-Api-Key": {canaries["API key"]},
		}})
		c.toolNames(t)
		c.call(t, "inline_echo", map[string]any{"message": "x"})
		c.call(t, "secret_list", nil)
	}
	for _, want := range []string{"inline token", "token of a Secret"} {
		if _, sent := authorized.Load("Bearer " + canaries[want]); !sent {
			t.Errorf("the %s was not sent to its target", want)
		}
	}
	if _, sent := authorized.Load("Bearer " + canaries["client's own"]); sent {
		t.Error("the client's credential went to a target")
	}
	for _, address := range []string{"http://" + admin + "/config", "http://" + g.Metrics + "/metrics", "http://" + g.Ready + "/readyz"} {
		status, body := get(t, address)
		if status != http.StatusOK {
			t.Errorf("%s answers %d", address, status)
		}
		bodies = append(bodies, body)
	}
	// A broken edit, with an excerpt around the secrets.
	g.Rewrite(t, strings.ReplaceAll(manifest(g.Port, fmt.Sprintf("{name: inline, auth: {kind: Inline, inlin: %s}}", canaries["inline token"])), "port: ", "prot: ")+`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: users}
spec:
  basicAuthentication: {users: ["`+canaries["hash of a user"]+`"], usr: ["alice:`+canaries["hash in a Secret"]+`"]}
`)
	g.Writes(t, &g.Stderr, `the new configuration is refused`)
	if code := g.Terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	_, rendered, _ := output(t, nil, binary, "validate", "-f", g.File)
	everything := strings.Join(append(bodies, g.Stdout.String(), g.Stderr.String(), rendered), "\n")
	for what, canary := range canaries {
		for _, form := range []string{canary, canary[:12], base64.StdEncoding.EncodeToString([]byte(canary)), url.QueryEscape(canary)} {
			if i := strings.Index(everything, form); i >= 0 {
				t.Errorf("the %s was printed: …%s…", what, everything[max(0, i-200):min(len(everything), i+100)])
				break
			}
		}
	}
}

// TestMetrics scrapes what calls, tool errors and denials leave behind.
func TestMetrics(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + rbac("Deny", "mcp.tool.name == 'slow'")
	})
	c := connect(t, g.url(), clientOptions{})
	c.call(t, "demo_echo", map[string]any{"message": "x"})
	c.call(t, "demo_now", map[string]any{"zone": "No/Where"})
	unknownTool(t, c, "demo_slow")
	unknownTool(t, c, "demo_invented")
	var body string
	testgateway.Eventually(t, "all requests are counted", func() error {
		_, body = get(t, "http://"+g.Metrics+"/metrics")
		for _, want := range []string{`mcpgw_http_requests_total{`, `gen_ai_tool_name="echo"`, `error_type="tool_error"`, `mcpgw_denied_total{`} {
			if !strings.Contains(body, want) {
				return fmt.Errorf("%s is missing in:\n%s", want, testgateway.Tail(body))
			}
		}
		return nil
	})
	if strings.Contains(body, "invented") {
		t.Errorf("what a client made up is a label:\n%s", body)
	}
}
