package session

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A ping reaches targets of both eras whatever is known of them already, and one that
// is silent gives none.
func TestPing(t *testing.T) {
	for name, handler := range map[string]http.Handler{"modern": modernHandler(sdkServer()), "legacy": legacyHandler(sdkServer())} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			var silent atomic.Bool
			ended := make(chan struct{})
			defer close(ended)
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					asked.Add(1)
					if silent.Load() {
						<-ended
						return
					}
				}
				handler.ServeHTTP(w, r)
			}))
			tg := target(t, s.URL, func(cfg *TargetConfig) { cfg.Timeout = 300 * time.Millisecond })
			c := client("a")
			if tg.Known(c, Forward{}) != nil {
				t.Error("something is known of a target that nobody asked")
			}
			if d, leg := tg.Ready(c, Forward{}); d != nil || leg != nil {
				t.Error("it is ready")
			}
			if _, err := tg.Discover(t.Context(), c, Forward{}); err != nil {
				t.Fatal(err)
			}
			d, leg := tg.Ready(c, Forward{})
			if modern := name == "modern"; (d != nil) != modern || (leg != nil) != modern || tg.Known(c, Forward{}) == nil {
				t.Errorf("after Discover: %v, %v", d, leg)
			}
			before := asked.Load()
			if err := tg.Ping(t.Context(), c, Forward{}); err != nil || asked.Load() == before {
				t.Errorf("%v, %d requests", err, asked.Load()-before)
			}
			silent.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := tg.Ping(ctx, c, Forward{}); fault.Of(err).Code != fault.UpstreamTimeout {
				t.Errorf("a silent target: %v", err)
			}
		})
	}
}
