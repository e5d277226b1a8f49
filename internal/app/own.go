package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/config"
)

// The default addresses of the gateway's own listeners, in front of a
// configuration from files.
const (
	DefaultAdminAddr   = "127.0.0.1:15000"
	DefaultMetricsAddr = "127.0.0.1:15020"
	DefaultReadyAddr   = "127.0.0.1:15021"
)

// own are the listeners of the gateway itself, beside those of the configuration.
type own struct {
	logger  *slog.Logger
	servers []*http.Server
	serving sync.WaitGroup
}

// open serves handler at addr until close. A default port that is busy gives way to a free
// one, which is logged.
func (o *own) open(what, addr, byDefault string, handler http.Handler) error {
	l, fellBack, err := listenOwn(addr, byDefault)
	if err != nil {
		return err
	}
	if l == nil {
		return nil
	}
	if fellBack {
		o.logger.Warn("the default port is busy, a free one is used", slog.String("for", what),
			slog.String("default", byDefault), slog.String("address", l.Addr().String()))
	}
	o.logger.Info("listening", slog.String("for", what), slog.String("address", l.Addr().String()))
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(o.logger.Handler(), slog.LevelDebug)}
	o.servers = append(o.servers, server)
	o.serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.logger.Error("listener ended", slog.String("for", what), slog.Any("error", err))
		}
	})
	return nil
}

// close ends the listeners at once.
func (o *own) close() {
	for _, server := range o.servers {
		_ = server.Close()
	}
	o.serving.Wait()
}

// readiness answers /readyz by ready and /livez always.
func readiness(ready func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	return mux
}

// metricsHandler serves series at /metrics.
func metricsHandler(series http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", series)
	return mux
}

// admin serves profiles and the configuration without its secrets.
func admin(current func() *config.Resources) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		res := current()
		if res == nil {
			http.Error(w, "no configuration is served yet", http.StatusServiceUnavailable)
			return
		}
		data, err := dump(res)
		if err != nil {
			http.Error(w, "the configuration can't be shown", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	})
	return localOnly(mux)
}

// localOnly refuses what a web page could make a browser send here: requests for
// another host than one of this machine, and requests from other origins.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !isLocalAddress(r.Context(), ip)) || r.Header.Get("Origin") != "" {
			http.Error(w, "only requests to this machine's own addresses are served, and none from web pages", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLocalAddress reports whether ip is loopback or the address that the request
// came in at.
func isLocalAddress(ctx context.Context, ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	at, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.IP.Equal(ip)
}
