package session

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// canned answers tools/call without a network, so that what is measured is the
// leg alone.
type canned struct{ stream bool }

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	m, err := protocol.Parse(body, protocol.Limits{})
	if err != nil {
		return nil, err
	}
	answer := `{"content":[{"type":"text","text":"hello hello hello hello"}]}`
	if m.Method == "server/discover" {
		answer = `{"supportedVersions":["2026-07-28"],"capabilities":{}}`
	}
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}
	out := protocol.AppendResult(nil, m.ID, []byte(answer))
	if c.stream {
		resp.Header.Set("Content-Type", "text/event-stream")
		out = events.Append(nil, events.Event{Data: out, Retry: -1})
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(out)), int64(len(out))
	return resp, nil
}

func BenchmarkCall(b *testing.B) {
	for name, c := range map[string]canned{"json": {}, "stream": {stream: true}} {
		for _, era := range []protocol.Era{protocol.Legacy, protocol.Modern} {
			b.Run(name+"/"+era.String(), func(b *testing.B) {
				tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://x.example/mcp", RoundTripper: c}, Options{})
				defer tg.Close()
				cl := client("a")
				l := &Leg{t: tg, client: &cl, w: &legacyHTTP{t: tg, sid: "s", revision: protocol.LatestLegacy}}
				if era == protocol.Modern {
					l.w = &modernHTTP{t: tg, client: &cl, revision: protocol.LatestModern}
				}
				p := []byte(`{"name":"echo","arguments":{"text":"hello"},"_meta":{"progressToken":1}}`)
				f := Forward{Header: http.Header{"Traceparent": {"00-1"}}}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := l.Call(context.Background(), &Call{Method: "tools/call", Params: p, Forward: f}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
