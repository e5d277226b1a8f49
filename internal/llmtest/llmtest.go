// Package llmtest has stand-ins for the providers of language models, for the tests of
// the gateway: a strict one of each vendor, and one on raw sockets that fails in every
// way in which a provider can.
//
// Its central type is [Server]. It takes a request only if the vendor's own types can
// hold all of it, its credential stands where the vendor wants it and nowhere else, and
// nothing of the client's credential or of another dialect came along; then it says an
// [Answer] in the vendor's own words. What it refuses it refuses as the vendor does, and
// keeps, so that [Server.Check] can tell.
//
// Tests and the bench import it, and nothing else does.
package llmtest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// Key is the credential that a [Server] wants.
const Key = "sk-llmtest-provider"

// ClientKey is what clients in tests show to the gateway. It must not come to a provider.
const ClientKey = "sk-llmtest-client"

// Sentinel is a member that no dialect has. A client writes it into a request: a provider
// of the same dialect gets it, for unknown fields are kept, and any other must not.
const Sentinel = "x_llmtest_sentinel"

// A Vendor says whose API a [Server] is.
type Vendor uint8

// The vendors.
const (
	OpenAI Vendor = iota
	Anthropic
	Gemini
	VertexGemini // Gemini at Vertex AI
	VertexClaude // Claude there
	BedrockNova  // Nova at Amazon Bedrock
	BedrockClaude
)

// Vendors are those that have one dialect each, and API keys.
var Vendors = []Vendor{OpenAI, Anthropic, Gemini}

// Everyone is Vendors and the platforms.
var Everyone = []Vendor{OpenAI, Anthropic, Gemini, VertexGemini, VertexClaude, BedrockNova, BedrockClaude}

// String returns a name of the vendor, which a Backend may have.
func (v Vendor) String() string {
	return [...]string{"openai", "anthropic", "gemini", "vertex-gemini", "vertex-claude", "bedrock-nova", "bedrock-claude"}[v]
}

// key returns the key of the vendor in a Backend.
func (v Vendor) key() string {
	return [...]string{"openai", "anthropic", "gemini", "vertexAI", "vertexAI", "bedrock", "bedrock"}[v]
}

// credential returns the header that holds the vendor's credential, and its value.
func (v Vendor) credential() (header, value string) {
	switch v {
	case Anthropic:
		return "X-Api-Key", Key
	case Gemini:
		return "X-Goog-Api-Key", Key
	default:
		return "Authorization", "Bearer " + Key
	}
}

// A Request is what a [Server] was asked.
type Request struct {
	Path   string // with the query
	Header http.Header
	Body   []byte
	// Refused is why it was refused; nil when it was not.
	Refused error
}

// A Server is a strict stand-in of a vendor. It is safe for concurrent use.
type Server struct {
	Vendor Vendor
	// Host and Port are where it listens.
	Host, Port string

	server *httptest.Server
	mu     sync.Mutex
	answer Answer
	asked  []Request
}

// Start starts a stand-in, which runs until Close.
func Start(v Vendor) *Server {
	s := &Server{Vendor: v, answer: Hello}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	s.Host, s.Port, _ = net.SplitHostPort(s.server.Listener.Addr().String()) // as started
	return s
}

// Close ends it.
func (s *Server) Close() { s.server.Close() }

// Says sets what it says from now on. It says [Hello] at first.
func (s *Server) Says(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

// Asked returns the requests so far.
func (s *Server) Asked() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.asked...)
}

// Check returns the first refusal, if there was one.
func (s *Server) Check() error {
	for _, r := range s.Asked() {
		if r.Refused != nil {
			return fmt.Errorf("%s refused %s: %w\n%s", s.Vendor, r.Path, r.Refused, r.Body)
		}
	}
	return nil
}

// Provider returns the fields of spec.ai.llm in a Backend that lead to it, as a flow
// mapping without braces. more, unless empty, is further fields of the vendor.
func (s *Server) Provider(more string) string {
	return Provider(s.Vendor, s.Host, s.Port, more)
}

// Provider returns the fields of spec.ai.llm that lead to a vendor's API at host and port.
func Provider(v Vendor, host, port, more string) string {
	if more != "" {
		more = ", " + more
	}
	if v == VertexGemini || v == VertexClaude {
		more = vertexFields(v) + more
	}
	if model := bedrockModels[v]; model != "" {
		more = fmt.Sprintf(", model: %q", model) + more
	}
	return fmt.Sprintf("host: %s, port: %s, %s: {authToken: {kind: Inline, inline: %s}%s}", host, port, v.key(), Key, more)
}

// Backend returns the YAML of a Backend of that name whose priority groups have a
// provider each, of which the fields are given as [Provider] returns them.
func Backend(name string, providers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec:\n  type: AI\n  ai:\n    priorityGroups:\n", name)
	for i, p := range providers {
		fmt.Fprintf(&b, "    - providers: [{name: p%d, %s}]\n", i+1, p)
	}
	return b.String()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway went away
	}
	d, stream, refused := operation(s.Vendor, r)
	if refused == nil {
		refused = s.check(r, d, body)
	}
	if d != Generate && !d.framed() && bytes.Contains(body, []byte(`"stream":true`)) {
		stream = true
	}
	s.mu.Lock()
	s.asked = append(s.asked, Request{Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body, Refused: refused})
	a := s.answer
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case refused != nil:
		d.head(w.Header(), http.StatusBadRequest)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(d.Error(http.StatusBadRequest, refused.Error()))
	case a.Status != 0:
		for name, value := range a.Header {
			w.Header().Set(name, value)
		}
		d.head(w.Header(), a.Status)
		w.WriteHeader(a.Status)
		_, _ = w.Write(d.Error(a.Status, a.Text))
	case stream:
		w.Header().Set("Content-Type", d.MediaType())
		for _, e := range d.Stream(a) {
			_, _ = w.Write(e.Wire) // the gateway may be gone
			_ = http.NewResponseController(w).Flush()
		}
	default:
		_, _ = w.Write(d.Whole(a, body))
	}
}
