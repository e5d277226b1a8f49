package kube

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// startRateLimit runs Envoy's rate limit service, which hack/deps builds, on a redis-server, until the test ends. It returns where both are.
func startRateLimit(t testing.TB, limits string) (redis, host string, port int) {
	t.Helper()
	hash := sha256.New()
	for _, file := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "hack", "ratelimit", file))
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir, redisHost, redisPort := t.TempDir(), newHost(), testgateway.FreePort(t)
	redis = net.JoinHostPort(redisHost, fmt.Sprint(redisPort))
	testgateway.Run(t, nil, "redis-server", "--port", fmt.Sprint(redisPort), "--bind", redisHost, "--protected-mode", "no", "--save", "", "--dir", dir).Listens(t, redis)
	config := filepath.Join(dir, "limits", "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "api.yaml"), []byte(limits), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port = newHost(), testgateway.FreePort(t)
	testgateway.Run(t, []string{
		"RUNTIME_ROOT=" + dir, "RUNTIME_SUBDIRECTORY=limits", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=warn",
		"REDIS_SOCKET_TYPE=tcp", "REDIS_URL=" + redis, "HOST=127.0.0.1", fmt.Sprintf("PORT=%d", testgateway.FreePort(t)), "GRPC_HOST=" + host, fmt.Sprintf("GRPC_PORT=%d", port),
		"DEBUG_HOST=127.0.0.1", fmt.Sprintf("DEBUG_PORT=%d", testgateway.FreePort(t)),
	}, filepath.Join(cache, "mcpgw", fmt.Sprintf("ratelimit-%x", hash.Sum(nil)[:8]))).Listens(t, net.JoinHostPort(host, fmt.Sprint(port)))
	return redis, host, port
}
