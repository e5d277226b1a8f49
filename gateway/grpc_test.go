package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// h2c returns a client that speaks HTTP/2 in plain text.
func h2c(t *testing.T) *http.Transport {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// What the matches of a GRPCRoute take, and in which order.
func TestGRPCMatches(t *testing.T) {
	rules := []struct{ name, match string }{
		{"exact", `{method: {service: a.B, method: C}}`},
		{"exact with a header", `{method: {service: a.B, method: C}, headers: [{name: x-a, value: "1"}]}`},
		{"service", `{method: {service: a.B}}`},
		{"method", `{method: {method: Only}}`},
		{"expression", `{method: {type: RegularExpression, service: "x[.]Y+", method: "Get|List"}}`},
		{"expression for services", `{method: {type: RegularExpression, service: "z[.].*"}}`},
		{"expression for methods", `{method: {type: RegularExpression, method: "Watch.*"}}`},
		{"header", `{headers: [{type: RegularExpression, name: x-b, value: "[0-9]+"}]}`},
	}
	text := "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: calls}\nspec:\n  rules:\n"
	for i, r := range rules {
		text += fmt.Sprintf("  - {name: r%d, matches: [%s], filters: [{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: d%d}}]}\n", i, r.match, i)
	}
	for i, r := range rules {
		text += fmt.Sprintf("---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: DirectResponse\nmetadata: {name: d%d}\nspec: {status: 200, body: %s}\n", i, r.name)
	}
	g := start(t, text)
	for _, tc := range []struct {
		path, want string
		header     []string
	}{
		{"/a.B/C", "exact", nil}, {"/a.B/C", "exact with a header", []string{"X-A", "1"}}, {"/a.B/D", "service", nil}, {"/a.BC/D", "route not found", nil},
		{"/q.R/Only", "method", nil}, {"/q.R/only", "route not found", nil}, {"/q/r/Only", "route not found", nil},
		{"/x.YY/List", "expression", nil}, {"/x.YY/Lists", "route not found", nil}, {"/xxY/Get", "route not found", nil}, {"/z.A/Any", "expression for services", nil}, {"/q.R/WatchAll", "expression for methods", nil},
		{"/q.R/S", "header", []string{"X-B", "12"}}, {"/q.R/S", "route not found", []string{"X-B", "a"}},
	} {
		if got := g.do("POST", g.url("8080", tc.path), nil, tc.header...); got.Body != tc.want {
			t.Errorf("%s %v: %d %q, want %q", tc.path, tc.header, got.Status, got.Body, tc.want)
		}
	}
}

// Faults are told to gRPC clients as gRPC has them, whatever the kind of the route is, and to others as ever.
func TestGRPCFaults(t *testing.T) {
	text := hosts("web", "", newWebServer(t, "s", nil)) + route("r", "matches: [{path: {value: /denied}}]\n"+toWeb) + route("r2", "matches: [{path: {value: /lost}}]\nbackendRefs: ["+to("none")+"]") +
		webPolicyOn("p", "HTTPRoute", "r", "", `rbac: {policy: {matchExpressions: ["false"]}}`)
	g := start(t, text)
	client := h2c(t)
	for _, tc := range []struct {
		path, content string
		status        int
		want          string // grpc-status, grpc-message and body
	}{
		{"/denied", "application/grpc", 200, "7 authorization failed "},
		{"/denied", "application/grpc+proto", 200, "7 authorization failed "},
		{"/none/None", "application/grpc", 200, "12 route not found "},
		{"/lost", "application/grpc;v=1", 200, "13 the configuration of this route has a problem "},
		{"/none/None", "application/grpc-web", 404, "  route not found"},
		{"/none/None", "application/json", 404, "  route not found"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", g.url("8080", tc.path), strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tc.content)
		resp, err := client.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got := resp.Header.Get("Grpc-Status") + " " + resp.Header.Get("Grpc-Message") + " " + string(body)
		if resp.StatusCode != tc.status || got != tc.want || tc.status == 200 && resp.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s %s: %d %q %v", tc.path, tc.content, resp.StatusCode, got, resp.Header)
		}
	}
}

// A call may be silent for longer than the body of another request, and ends when its server does.
func TestGRPCSilence(t *testing.T) {
	ends := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		buf := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				return
			}
			if buf[0] == 'x' { // the connection breaks, and the client is still silent
				close(ends)
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(buf)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols.SetHTTP1(true)
	server.Start()
	t.Cleanup(server.Close)
	host, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	text := strings.Replace(static("calls", fmt.Sprintf("{host: %q, port: %s}", host, port)), "static: {", "static: {appProtocol: grpc, ", 1) + route("r", "backendRefs: ["+to("calls")+"]")
	g := startWith(t, Options{BodyGrace: 200 * time.Millisecond}, text)
	client := h2c(t)
	call := func(content string) (*io.PipeWriter, *http.Response) {
		t.Helper()
		body, send := io.Pipe()
		t.Cleanup(func() { _ = send.Close() })
		r, err := http.NewRequestWithContext(t.Context(), "POST", g.url("8080", "/a.B/C"), body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", content)
		go func() { _, _ = io.WriteString(send, "1") }()
		resp, err := client.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return send, resp
	}
	echoes := func(send *io.PipeWriter, resp *http.Response, text string) error {
		t.Helper()
		if text != "1" { // which was sent
			if _, err := io.WriteString(send, text); err != nil {
				return err
			}
		}
		buf := make([]byte, len(text))
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			return err
		}
		if !bytes.Equal(buf, []byte(text)) {
			return fmt.Errorf("%q came for %q", buf, text)
		}
		return nil
	}
	send, resp := call("application/grpc")
	if err := echoes(send, resp, "1"); err != nil {
		t.Fatal(err)
	}
	_, slow := call("application/octet-stream")
	if _, err := io.ReadAll(slow.Body); err == nil { // it begins later, and is given up
		t.Error("a body that does not come is waited for")
	}
	if err := echoes(send, resp, "2"); err != nil {
		t.Errorf("after the silence: %v", err)
	}
	if _, err := io.WriteString(send, "x"); err != nil {
		t.Fatal(err)
	}
	<-ends
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "14" {
		t.Errorf("its server has gone: %v, %v", err, resp.Trailer)
	}
}
