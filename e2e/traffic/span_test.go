package traffic

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestSpans is about the span that each try has, within that of the request, and the trace that each server gets.
func TestSpans(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var spans []*trace.Span
	otlp := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/traces" {
			return // metrics go there, too
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				spans = append(spans, ss.Spans...)
			}
		}
	})
	var parents []string
	tries := 0
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		parents = append(parents, strings.Split(r.Header.Get("Traceparent"), "-")[2])
		if tries++; tries < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	g := start(t, testgateway.Backend("a", "", server)+testgateway.Route("r", "/", "a", ", retry: {codes: [503], attempts: 2, backoff: 1ms}"),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://"+otlp, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=10")
	if got := g.Ask(t, "GET", "/", nil); got.Status != http.StatusOK {
		t.Fatalf("answer %d", got.Status)
	}
	testgateway.Until(t, "there are four spans", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(spans) >= 4
	})
	mu.Lock()
	defer mu.Unlock()
	var root *trace.Span
	var got, ids []string
	for _, s := range spans {
		if s.Kind == trace.Span_SPAN_KIND_SERVER {
			root = s
			continue
		}
		text := s.Name
		for _, a := range s.Attributes {
			if a.Key == "http.request.resend_count" || a.Key == "http.response.status_code" {
				text += " " + a.Value.GetStringValue()
			}
		}
		got, ids = append(got, text), append(ids, fmt.Sprintf("%x", s.SpanId))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"GET 1 503", "GET 2 200", "GET 503"}, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	slices.Sort(ids)
	slices.Sort(parents)
	if diff := cmp.Diff(ids, parents); diff != "" {
		t.Errorf("the servers are within (-want +got):\n%s", diff)
	}
	for _, s := range spans {
		if s != root && (root == nil || string(s.ParentSpanId) != string(root.SpanId)) {
			t.Errorf("%s is not within the span of the request", s.Name)
		}
	}
}
