package main

import (
	"context"
	"flag"
	"net"
	"net/http"
	"net/http/httputil"
	_ "net/http/pprof" // on the default mux, which serves the debug listener
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// runProxy serves the reference until ctx ends: httputil.ReverseProxy as one
// would tune it, with idle connections enough for the load and pooled buffers
// (event streams it flushes at once by itself). It does nothing but proxy.
func runProxy(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("proxy", flag.ContinueOnError)
	addr := fs.String("addr", "", "where to listen")
	debug := fs.String("debug", "", "where to serve /debug/pprof")
	upstream := fs.String("upstream", "", "URL of the server behind it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	u, err := url.Parse(*upstream)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u) },
		BufferPool: &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConns:        4096,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, *debug, http.DefaultServeMux) })
	g.Go(func() error { return serve(ctx, *addr, proxy) })
	return g.Wait()
}

// A bufferPool holds the copy buffers of a ReverseProxy.
type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte  { return p.Pool.Get().(*[32 << 10]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }
