package traffic

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// installed returns what hack/deps keeps of a module in hack.
func installed(t testing.TB, module string) string {
	t.Helper()
	hash := sha256.New()
	for _, file := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "hack", module, file))
		if os.IsNotExist(err) && file == "main.go" {
			continue // the module builds somebody else's
		}
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "mcpgw", fmt.Sprintf("%s-%x", module, hash.Sum(nil)[:8]))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("what the tests need is not installed: run `make deps` (%v)", err)
	}
	return path
}

// startRateLimit runs Envoy's rate limit service on a redis-server of its own, and returns its address.
func startRateLimit(t testing.TB, limits string) string {
	t.Helper()
	redis, grpc, web, debug := testgateway.FreeAddress(t), testgateway.FreeAddress(t), testgateway.FreeAddress(t), testgateway.FreeAddress(t)
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	dir := t.TempDir()
	testgateway.Run(t, nil, "redis-server", "--port", port(redis), "--bind", "127.0.0.1", "--save", "", "--dir", dir).Listens(t, redis)
	config := filepath.Join(dir, "limits", "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "api.yaml"), []byte(limits), 0o600); err != nil {
		t.Fatal(err)
	}
	testgateway.Run(t, []string{
		"RUNTIME_ROOT=" + dir, "RUNTIME_SUBDIRECTORY=limits", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=warn",
		"REDIS_SOCKET_TYPE=tcp", "REDIS_URL=" + redis, "HOST=127.0.0.1", "PORT=" + port(web), "GRPC_HOST=127.0.0.1", "GRPC_PORT=" + port(grpc),
		"DEBUG_HOST=127.0.0.1", "DEBUG_PORT=" + port(debug),
	}, installed(t, "ratelimit")).Listens(t, grpc)
	return grpc
}

// TestRateLimitOfEnvoy asks Envoy's own service: each user has two requests a day, and answers say what is left.
func TestRateLimitOfEnvoy(t *testing.T) {
	t.Parallel()
	service := startRateLimit(t, "domain: api\ndescriptors:\n- key: generic_key\n  value: prod\n  descriptors:\n  - key: user\n    rate_limit: {unit: day, requests_per_unit: 2}\n")
	g := start(t, grpcBackend("counter", service)+testgateway.Backend("up", "", serve(t, echo))+
		gatewayExtension("limits", "rateLimit: {domain: api, timeout: 10s, failOpen: false, xRateLimitHeaders: DraftVersion03, grpcService: {"+toBackend+"counter}}}")+
		testgateway.Route("a", "/a", "up", "")+testgateway.TrafficPolicy("a", "a", "rateLimit: {rateLimits: [{actions: [{genericKey: {descriptorValue: prod}}, {requestHeaders: {headerName: x-user, descriptorKey: user}}]}]}")+
		testgateway.Route("b", "/b", "up", "")+testgateway.TrafficPolicy("b", "b", "rateLimit: {global: {extensionRef: {name: limits}, descriptors: [{entries: [{type: Generic, generic: {key: generic_key, value: prod}}, {type: Header, header: user}]}]}}"))
	for i, want := range []struct {
		path, header, user string
		status             int
		remaining          string
	}{
		{"/a", "X-User", "ann", http.StatusOK, "1"},
		{"/b", "User", "ann", http.StatusOK, "0"}, // the same counter
		{"/a", "X-User", "ann", http.StatusTooManyRequests, "0"},
		{"/b", "User", "ann", http.StatusTooManyRequests, "0"},
		{"/a", "X-User", "bob", http.StatusOK, "1"},
	} {
		got := g.Ask(t, "GET", want.path, nil, want.header, want.user)
		if got.Status != want.status || got.Header.Get("X-Ratelimit-Remaining") != want.remaining || !strings.HasPrefix(got.Header.Get("X-Ratelimit-Limit"), "2, 2;w=86400") {
			t.Errorf("%d. %s of %s: %d %q %v", i, want.path, want.user, got.Status, got.Body, got.Header)
		}
	}
}
