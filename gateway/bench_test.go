package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/config"
)

// BenchmarkRequest measures a request through the stations of the gateway beside a tuned
// reverse proxy of net/http: client, proxy and upstream in one process.
func BenchmarkRequest(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 1024}
	defer tr.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: tr}

	rt, err := NewRuntime(RuntimeOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(Options{Runtime: rt, Logger: slog.New(slog.DiscardHandler)})
	host, port, _ := strings.Cut(target.Host, ":")
	res, report := config.LoadFiles([]config.File{{Name: "bench.yaml", Text: []byte(static("a", "{host: "+host+", port: "+port+"}") + route("r", "backendRefs: ["+to("a")+"]"))}})
	if report.Has(config.Invalid) {
		b.Fatal(report.Problems)
	}
	snapshot, _ := Compile(res, rt)
	rt.prepare(snapshot)
	defer rt.close()
	s.snapshot.Store(snapshot)

	for name, h := range map[string]http.Handler{"ReverseProxy": proxy, "gateway": &front{server: s, port: 8080, base: s.base}} {
		b.Run(name, func(b *testing.B) {
			front := httptest.NewServer(h)
			defer front.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Post(front.URL+"/mcp", "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`))
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		})
	}
}
