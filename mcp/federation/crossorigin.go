package federation

import (
	"context"
	"net/http"
	"strings"
)

// A Listener is what an MCP endpoint needs to know of the listener that
// accepted a request.
type Listener struct {
	// Loopback says that the listener is bound to a loopback address: then the
	// Host must name this machine, or a page on the web could reach it by DNS
	// rebinding.
	Loopback bool
}

type listenerKey struct{}

// WithListener returns a context for [Backend.Serve] that says where the request
// came in. Without it the listener counts as not loopback.
func WithListener(ctx context.Context, l Listener) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// ListenerOf returns what WithListener put into the context.
func ListenerOf(ctx context.Context) Listener {
	l, _ := ctx.Value(listenerKey{}).(Listener)
	return l
}

// checkOrigin refuses requests that a web page of a foreign origin may have caused. cross is the Origin of a page
// that may read the answer, "" where there is none.
func (b *Backend) checkOrigin(r *http.Request) (cross string, err error) {
	loopback := ListenerOf(r.Context()).Loopback
	if loopback {
		if err := b.origins.CheckHost(r.Host); err != nil {
			return "", err
		}
	}
	return b.origins.Check(r, loopback)
}

// AllowOrigin lets the page that r comes from, if it may use the backend, read an answer that
// [Backend.Serve] does not give.
func (b *Backend) AllowOrigin(h http.Header, r *http.Request) {
	if cross, err := b.checkOrigin(r); err == nil {
		allowOrigin(h, cross)
	}
}

// allowOrigin lets the page of that origin read the answer.
func allowOrigin(h http.Header, origin string) {
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, Mcp-Protocol-Version, Www-Authenticate")
}

// preflight answers the question of a browser whether a page of an allowed
// origin may send a request (Fetch, CORS-preflight).
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	var names []string
	for _, line := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); token(name) && len(names) < 100 {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
	}
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
