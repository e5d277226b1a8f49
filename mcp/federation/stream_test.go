package federation

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// tellingStream begins a stream that answers to w, until ctx ends.
func tellingStream(ctx context.Context, w *httptest.ResponseRecorder, ended func(any)) *stream {
	out := &sse{w: w, silence: &lifetime.Watchdog{After: time.Hour}, patience: time.Minute}
	s := new(Backend).newStream(ctx, out, &session.Client{})
	s.notify(promptsChanged) // before anybody can be told
	s.begin(ctx, nil, nil, func(method string) []byte { return protocol.AppendNotification(nil, method, nil) }, ended)
	return s
}

// Changes that come in crowds are told once, those that come later after a while, and those that came last at the end.
func TestStreamTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		ends := 0
		s := tellingStream(ctx, w, func(any) { ends++ })
		told := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			s.sse.mu.Lock()
			defer s.sse.mu.Unlock()
			var got []string
			for _, line := range strings.Split(w.Body.String(), "\n") {
				if _, rest, ok := strings.Cut(line, `"notifications/`); ok {
					got = append(got, rest[:strings.Index(rest, "/")])
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("told of %v, want %s", got, want)
			}
		}
		for range 100 {
			s.notify(toolsChanged)
		}
		told(settle-1, "")
		told(1, "tools prompts")
		s.notify(toolsChanged)
		s.notify(toolsChanged)
		told(pace-1, "tools prompts")
		told(1, "tools prompts tools")
		time.Sleep(time.Hour)
		s.notify(resourcesChanged)
		cancel()
		told(0, "tools prompts tools resources")
		if ends != 1 || s.life.Err() == nil {
			t.Errorf("ended %d times, life %v", ends, s.life.Err())
		}
		s.notify(toolsChanged)
		s.end()
		told(time.Hour, "tools prompts tools resources")
		if ends != 1 {
			t.Errorf("ended %d times", ends)
		}
	})
}

// What panics while the client is told ends the stream, and is the request's panic.
func TestStreamPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sse{w: httptest.NewRecorder(), silence: &lifetime.Watchdog{After: time.Hour}, patience: time.Minute}
		s := new(Backend).newStream(t.Context(), out, &session.Client{})
		s.notify(toolsChanged)
		defer func() {
			if v := recover(); v != "the reason" {
				t.Errorf("panicked with %v", v)
			}
		}()
		s.serve(t.Context(), nil, nil, func(string) []byte { panic("the reason") })
		t.Error("it has ended without")
	})
}
