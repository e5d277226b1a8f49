package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A matrixTarget is a server of the matrix, as a target of Backends.
type matrixTarget struct {
	name     string // as a target
	what     string // for the document
	revision string // that the gateway speaks with it
	npm      bool   // npm's server-everything, else a fullServer
	stdio    bool
	yaml     string // as an element of targets
	direct   string // its URL, when a client of streamable HTTP can use it
	journal  *journal
	own      self

	// changing is held while a test changes the server's lists, which all its clients hear of.
	changing sync.Mutex
}

// A self is what a server says of itself when it is asked without the gateway:
// also its lists by method, element by element.
type self struct {
	capabilities json.RawMessage
	instructions string
	lists        map[string][]json.RawMessage
}

// The lists of MCP: method, the member of the result, and the member that names an element.
var listMethods = []struct{ method, member, id string }{
	{"tools/list", "tools", "name"},
	{"prompts/list", "prompts", "name"},
	{"resources/list", "resources", "uri"},
	{"resources/templates/list", "resourceTemplates", "uriTemplate"},
}

// serveHandler serves a handler on loopback until the test ends, and returns its port.
func serveHandler(t *testing.T, h http.Handler) int {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// spliced serves a go-sdk handler through a splicer, and notes what it gets.
func spliced(j *journal, next http.Handler) http.Handler {
	return j.journaled(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(splicedResponse{w}, r) }))
}

// streamable serves go-sdk's servers over streamable HTTP.
func streamable(stateless bool) func(*mcp.Server) http.Handler {
	return func(s *mcp.Server) http.Handler {
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
			&mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: stateless})
	}
}

func legacySSE(s *mcp.Server) http.Handler {
	return mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
}

// startMatrixTargets starts the five servers of the matrix, and for each one its
// companion: a server that has prompts and nothing else.
func startMatrixTargets(t *testing.T) (targets []*matrixTarget, companions map[*matrixTarget]*matrixTarget) {
	t.Helper()
	companions = map[*matrixTarget]*matrixTarget{}
	add := func(target, companion *matrixTarget) {
		targets = append(targets, target)
		companions[target] = companion
	}
	inProcess := func(name, what, revision, options string, handler func(*mcp.Server) http.Handler) (*matrixTarget, *matrixTarget) {
		yaml := func(name string, port int) string {
			return fmt.Sprintf("{name: %s, timeout: 30s, static: {host: 127.0.0.1, port: %d%s}}", name, port, options)
		}
		j := newJournal(t, name)
		full := newFullServer(name, j)
		target := &matrixTarget{name: name, what: what, revision: revision, journal: j}
		port := serveHandler(t, spliced(j, handler(full.Server)))
		target.yaml = yaml(name, port)
		if options == "" {
			target.direct = fmt.Sprintf("http://127.0.0.1:%d", port)
		}
		many := &matrixTarget{name: "many", journal: newJournal(t, name+"-many")}
		many.yaml = yaml("many", serveHandler(t, many.journal.journaled(handler(newManyServer("many")))))
		return target, many
	}
	legacy, legacyMany := inProcess("legacy", "go-sdk, streamable HTTP with sessions", "2025-11-25", "", streamable(false))
	add(legacy, legacyMany)
	add(inProcess("modern", "go-sdk, streamable HTTP, stateless", "2026-07-28", "", streamable(true)))

	everything, _ := startEverything(t, "streamableHttp")
	npm := &matrixTarget{
		name: "everything", what: "npm server-everything, streamable HTTP", revision: "2025-11-25", npm: true,
		journal: newJournal(t, "everything"), direct: fmt.Sprintf("http://127.0.0.1:%d/mcp", everything),
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", everything)})
	proxy.FlushInterval = -1
	npm.yaml = fmt.Sprintf("{name: everything, timeout: 30s, static: {host: 127.0.0.1, port: %d, path: /mcp}}", serveHandler(t, npm.journal.journaled(proxy)))
	add(npm, legacyMany)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := func(name, server string) *matrixTarget {
		target := &matrixTarget{name: name, what: "go-sdk, stdio", revision: "2026-07-28", stdio: true, journal: newJournal(t, server)}
		target.yaml = fmt.Sprintf("{name: %s, timeout: 30s, stdio: {command: %q, env: {%s: %s, %s: %q}}}",
			name, self, stdioServerEnv, server, stdioJournalEnv, target.journal.path)
		return target
	}
	add(child("stdio", "stdio"), child("many", "stdio-many"))
	add(inProcess("sse", "go-sdk, HTTP+SSE of 2024-11-05", "2025-11-25", ", path: /, protocol: SSE", legacySSE))

	for _, target := range targets {
		direct := target.direct
		if direct == "" {
			// The same server, where go-sdk's client would need another transport.
			same := newFullServer(target.name, newJournal(t, target.name+"-same"))
			direct = fmt.Sprintf("http://127.0.0.1:%d", serveHandler(t, spliced(newJournal(t, target.name+"-direct"), streamable(true)(same.Server))))
		}
		target.own = ask(t, direct, target.revision)
	}
	return targets, companions
}

// ask asks a server what it is.
func ask(t *testing.T, endpoint, revision string) self {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testgateway.Patience)
	defer cancel()
	p, err := dialGo(ctx, "direct", revision, endpoint, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	capabilities, err := wireCapabilities(p)
	if err != nil {
		t.Fatal(err)
	}
	own := self{capabilities: capabilities, instructions: p.server().Instructions, lists: map[string][]json.RawMessage{}}
	for _, list := range listMethods {
		if _, err := listAll(ctx, p, list.method, list.member); err != nil {
			t.Fatal(err)
		}
		elements, err := wireElements(p.inbox(), list.method, list.member)
		if err != nil {
			t.Fatal(err)
		}
		own.lists[list.method] = elements
	}
	return own
}
