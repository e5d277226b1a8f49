package extension

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

// statusOf is what a service says of one descriptor.
func statusOf(code rlsv3.RateLimitResponse_Code, name string, unit rlsv3.RateLimitResponse_RateLimit_Unit, most, left uint32, reset time.Duration) *rlsv3.RateLimitResponse_DescriptorStatus {
	return &rlsv3.RateLimitResponse_DescriptorStatus{
		Code: code, LimitRemaining: left, DurationUntilReset: durationpb.New(reset),
		CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{Name: name, RequestsPerUnit: most, Unit: unit},
	}
}

func TestRateLimitAnswers(t *testing.T) {
	const ok, over = rlsv3.RateLimitResponse_OK, rlsv3.RateLimitResponse_OVER_LIMIT
	value := func(key, value string) []*corev3.HeaderValue {
		return []*corev3.HeaderValue{{Key: key, Value: value}}
	}
	cases := []struct {
		name    string
		says    *rlsv3.RateLimitResponse
		headers bool
		want    *Counted // nil: it can't be used
	}{
		{"within", &rlsv3.RateLimitResponse{OverallCode: ok, RequestHeadersToAdd: value("x-a", "1"), ResponseHeadersToAdd: value("x-b", "2")}, false,
			&Counted{Request: []HeaderChange{{Name: "X-A", Value: "1"}}, Response: []HeaderChange{{Name: "X-B", Value: "2"}}}},
		{"over", &rlsv3.RateLimitResponse{OverallCode: over, RawBody: []byte("no more"), Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{
			statusOf(over, "", rlsv3.RateLimitResponse_RateLimit_MINUTE, 5, 0, 30*time.Second)}}, false,
			&Counted{Over: true, Body: []byte("no more"), Reset: 30 * time.Second}},
		{"over, whatever its headers are", &rlsv3.RateLimitResponse{OverallCode: over, ResponseHeadersToAdd: value("x-b", "a\r\nb: c")}, false, &Counted{Over: true}},
		{"headers of the limit of which the least is left", &rlsv3.RateLimitResponse{OverallCode: ok, Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{
			statusOf(ok, "", rlsv3.RateLimitResponse_RateLimit_HOUR, 100, 40, time.Hour), {Code: ok}, statusOf(ok, `a"b`, rlsv3.RateLimitResponse_RateLimit_WEEK, 10, 4, time.Minute)}}, true,
			&Counted{Response: []HeaderChange{
				{Name: limitHeader, Value: `10, 100;w=3600, 10;w=604800;name="a\"b"`, Action: Overwrite},
				{Name: remainingHeader, Value: "4", Action: Overwrite}, {Name: resetHeader, Value: "60", Action: Overwrite}}}},
		{"no limit", &rlsv3.RateLimitResponse{OverallCode: ok, Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: ok}}}, true, &Counted{}},
		{"neither", &rlsv3.RateLimitResponse{}, false, nil},
		{"a header that HTTP does not permit", &rlsv3.RateLimitResponse{OverallCode: ok, RequestHeadersToAdd: value("x-a", "1\n2")}, false, nil},
		{"a header of the gateway's own", &rlsv3.RateLimitResponse{OverallCode: ok, RequestHeadersToAdd: value("x-mcpgw-peer", "request")}, false, &Counted{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := &RateLimit{domain: "d", headers: c.headers, should: func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) { return c.says, nil }}
			got, err := l.Take(t.Context(), []Descriptor{{{Key: "k", Value: "v"}}})
			if c.want == nil {
				if !errors.Is(err, errWrong) {
					t.Errorf("answer %+v, error %v; want that it can't be used", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("what was read (-want +got):\n%s", diff)
			}
			if h := got.Header(); len(h) != len(got.Response) || h[http.CanonicalHeaderKey("x-mcpgw-peer")] != nil {
				t.Errorf("headers %v", h)
			}
		})
	}
}

// TestRateLimitHits has requests count as the service has it, and tokens as many as there are, none among them.
func TestRateLimitHits(t *testing.T) {
	var asked *rlsv3.RateLimitRequest
	l := &RateLimit{domain: "d", should: func(_ context.Context, q *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		asked = q
		return &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}, nil
	}}
	list := []Descriptor{{{Key: "k", Value: "\xff"}}}
	if _, err := l.Take(t.Context(), list); err != nil || asked.GetDescriptors()[0].GetHitsAddend() != nil || asked.GetDomain() != "d" {
		t.Errorf("a request: asked %v, error %v", asked, err)
	}
	if v := asked.GetDescriptors()[0].GetEntries()[0].GetValue(); v != "!" {
		t.Errorf("what is no UTF-8 was sent as %q", v)
	}
	for _, hits := range []uint64{0, 12} {
		_, err := l.Add(t.Context(), list, hits)
		if a := asked.GetDescriptors()[0].GetHitsAddend(); err != nil || a == nil || a.GetValue() != hits {
			t.Errorf("%d tokens: asked %v, error %v", hits, asked, err)
		}
	}
}
