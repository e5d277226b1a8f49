package traffic

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A slowAuthServer answers a question once it was told to.
type slowAuthServer struct {
	authServer
	asked, answer chan struct{}
}

func (a *slowAuthServer) Check(ctx context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	if q.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-slow"] != "" {
		a.asked <- struct{}{}
		select {
		case <-a.answer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return a.authServer.Check(ctx, q)
}

// TestReplicasAsk is about a request of a session that one replica passes on to the session's home: services are asked where it came in and
// nowhere else, and what they, a processor and a transformation made of it reaches the server, whatever the client says.
func TestReplicasAsk(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "bank", Version: "1"}, &mcp.ServerOptions{Capabilities: &mcp.ServerCapabilities{Logging: &mcp.LoggingCapabilities{}}})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	levels := make(chan string, 10)
	host, port, _ := net.SplitHostPort(serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if bytes.Contains(b, []byte(`"logging/setLevel"`)) {
			levels <- r.Header.Get("X-User") + ", " + r.Header.Get("X-Shape") + ", " + r.Header.Get("X-Gone")
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		for session := range s.Sessions() {
			_ = session.Close()
		}
	})
	auth, proc := &slowAuthServer{asked: make(chan struct{}, 10), answer: make(chan struct{}, 10)}, &processor{}
	_, authAddress := serveGRPC(t, func(s *grpc.Server) { authv3.RegisterAuthorizationServer(s, auth) })
	_, procAddress := serveGRPC(t, func(s *grpc.Server) { extprocv3.RegisterExternalProcessorServer(s, proc) })
	resources := fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\nspec: {type: MCP, mcp: {targets: [{name: bank, static: {host: %s, port: %s, path: /}}], forwardHeaders: [x-user, x-shape, x-gone]}}\n---\n", host, port) +
		grpcBackend("auth", authAddress) + grpcBackend("proc", procAddress) +
		gatewayExtension("auth", "extAuth: {grpcService: {"+toBackend+"auth}, requestTimeout: 60s}}") +
		gatewayExtension("proc", "extProc: {grpcService: {"+toBackend+"proc}}, failOpen: false, messageTimeout: 60s}") +
		testgateway.Route("r", "/", "tools", "") + testgateway.TrafficPolicy("p", "r", `extAuth: {extensionRef: {name: auth}}
  extProc: {extensionRef: {name: proc}}
  transformation: {request: {set: [{name: x-shape, value: "extauthz.team + ' ' + request.headers['x-user']"}], remove: [x-gone]}}`)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(strings.Repeat("a", 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var replicas [2]*testgateway.Gateway
	for i := range replicas {
		g := testgateway.Serve(t, binary, resources, testgateway.Options{Args: []string{"--session-keys-file", keys, "--peer-addr", testgateway.FreeAddress(t)}})
		t.Cleanup(func() { g.Terminate(t) })
		replicas[i] = g
	}
	forged := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "X-User", "forged", "X-Shape", "forged", "X-Gone", "forged"}
	got := replicas[0].Ask(t, "POST", "/", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`), forged...)
	id := got.Header.Get("Mcp-Session-Id")
	if got.Status != http.StatusOK || id == "" {
		t.Fatalf("initialize: %d %q", got.Status, got.Body)
	}
	for i, g := range replicas {
		asked, processed := auth.count(), proc.streams.Load()
		auth.answer <- struct{}{}
		got := g.Ask(t, "POST", "/", strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}`), append(forged, "Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25", "X-Slow", "1")...)
		if got.Status != http.StatusOK || !strings.Contains(got.Body, `"result"`) {
			t.Errorf("at replica %d: %d %q", i, got.Status, got.Body)
			continue
		}
		<-auth.asked
		if got := <-levels; got != "ann, blue ann, " {
			t.Errorf("at replica %d the server got %q", i, got)
		}
		if n, m := auth.count()-asked, proc.streams.Load()-processed; n != 1 || m != 1 {
			t.Errorf("at replica %d the services were asked %d and %d times, want once", i, n, m)
		}
	}
}
