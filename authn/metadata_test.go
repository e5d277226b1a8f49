package authn

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
)

// The document is what the SDK for clients reads, and any page may read it.
func TestMetadata(t *testing.T) {
	m := &Metadata{
		AuthorizationServers: []string{issuer}, Scopes: []string{"a", "b"}, Name: "Tools", Documentation: "https://docs.example.com",
		Policy: "https://policy.example.com", Terms: "https://tos.example.com",
	}
	get := func(method string, m *Metadata) *httptest.ResponseRecorder {
		req := request("Origin", "https://inspector.example.com")
		req.HTTP.Method = method
		w := httptest.NewRecorder()
		if err := m.Serve(w, req); err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := get(http.MethodGet, m)
	var got oauthex.ProtectedResourceMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := oauthex.ProtectedResourceMetadata{
		Resource: audience, AuthorizationServers: []string{issuer}, ScopesSupported: []string{"a", "b"}, BearerMethodsSupported: []string{"header"},
		ResourceName: "Tools", ResourceDocumentation: "https://docs.example.com", ResourcePolicyURI: "https://policy.example.com", ResourceTOSURI: "https://tos.example.com",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := get(http.MethodHead, m); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := get(http.MethodOptions, m); w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Headers") != "*" {
		t.Errorf("OPTIONS: %d %v", w.Code, w.Header())
	}
	req := request()
	req.HTTP.Method = http.MethodPost
	var f *fault.Fault
	if err := m.Serve(httptest.NewRecorder(), req); !errors.As(err, &f) || f.Code != fault.MethodNotAllowed || f.Header.Get("Allow") == "" {
		t.Errorf("POST: %v", err)
	}
	for path, want := range map[string]string{"": WellKnown, "/mcp": WellKnown + "/mcp"} {
		if got := new(Metadata).Path(path); got != want {
			t.Errorf("%q is described at %s", path, got)
		}
		if got := (&Metadata{Resource: "https://public.example.com"}).Path(path); got != WellKnown {
			t.Errorf("at %s", got)
		}
		if got := (&Metadata{Resource: "https://public.example.com/a/b"}).Path(path); got != WellKnown+"/a/b" {
			t.Errorf("at %s", got)
		}
	}
	// Where no host is fixed, the client's own name for it is told.
	req = request()
	req.Endpoint = policy.Endpoint{Path: "/mcp"}
	req.HTTP.Host = "localhost:8080"
	if got := m.resource(req); got != "https://localhost:8080/mcp" {
		t.Error(got)
	}
}
