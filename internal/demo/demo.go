// Package demo is a small world for the gateway to stand in front of: two MCP
// servers, one of each era, and a mock language model, all carried by the binary
// and served on one loopback port.
//
// Its central type is [Server]. `mcpgw run` starts one when it is given no
// configuration, and serves [Server.YAML] in front of it; the end-to-end tests use it
// the same way. The MCP servers are go-sdk's, so the gateway talks to them over
// real sockets as to any other target: nothing here knows that a gateway exists.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Server serves the demo's MCP servers and its mock LLM. Make one with
// [Listen]; it is safe for concurrent use.
type Server struct {
	listener net.Listener
	handler  http.Handler
}

// Listen opens a free port on loopback. The caller calls [Server.Run] next.
func Listen(logger *slog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the demo: %w", err)
	}
	return &Server{listener: listener, handler: Handler(logger)}, nil
}

// Handler serves the modern MCP server at /demo/mcp, the legacy one at
// /notes/mcp and the mock LLM under /v1/.
func Handler(logger *slog.Logger) http.Handler {
	// go-sdk serves revision 2026-07-28 only without sessions, and sessions only
	// with them: so each era is a handler of its own.
	modern := newDemoServer(logger)
	legacy := newNotesServer(logger)
	mux := http.NewServeMux()
	mux.Handle("/demo/mcp", mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return modern },
		&mcp.StreamableHTTPOptions{Stateless: true, Logger: logger, PropagateRequestCancellation: true}))
	mux.Handle("/notes/mcp", mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return legacy },
		&mcp.StreamableHTTPOptions{Logger: logger, SessionTimeout: 30 * time.Minute}))
	mux.Handle("/v1/", newLLM(time.Now))
	return mux
}

// Addr returns the address that the demo listens on.
func (s *Server) Addr() *net.TCPAddr { return s.listener.Addr().(*net.TCPAddr) }

// Run serves until ctx ends, then closes every connection: nothing here is worth
// waiting for. It returns nil when ctx ended it.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the demo: %w", err)
	}
	return nil
}

// YAML returns the resources that put a gateway in front of the demo. They have no
// Gateway, so the one that is assumed for files serves them: port 8080 of loopback. Without
// llm the mock LLM is left out.
func (s *Server) YAML(llm bool) []byte {
	port := s.Addr().Port
	out := fmt.Appendf(nil, mcpManifest, port, port)
	if llm {
		out = fmt.Appendf(out, llmManifest, port)
	}
	return out
}

// mcpManifest has two holes, both for the demo's port.
const mcpManifest = `# The built-in demo: two MCP servers as one catalogue.
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: demo}
spec:
  type: MCP
  mcp:
    targets:
    - name: demo
      static: {host: 127.0.0.1, port: %d, path: /demo/mcp}
    - name: notes
      static: {host: 127.0.0.1, port: %d, path: /notes/mcp}
`

// llmManifest has one hole, for the demo's port.
const llmManifest = `---
# A mock LLM.
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: mock-llm}
spec:
  type: AI
  ai:
    llm:
      host: 127.0.0.1
      port: %d
      path: {full: /v1/chat/completions}
      openai: {model: mock, authToken: {secretRef: {name: mock-llm}}}
---
apiVersion: v1
kind: Secret
metadata: {name: mock-llm}
stringData: {Authorization: none}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mock-llm}
spec:
  parentRefs:
  - {name: default}
  rules:
  - matches:
    - path: {type: PathPrefix, value: /v1}
    backendRefs:
    - {group: gateway.kgateway.dev, kind: Backend, name: mock-llm}
`
