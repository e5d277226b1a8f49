package extension

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// An Entry is a key and value of a descriptor.
type Entry struct{ Key, Value string }

// A Descriptor is one question to a service that counts: the entries, in their order, tell apart what is counted apart.
type Descriptor []Entry

// A Counted is what a service that counts said.
type Counted struct {
	Over bool // one of the limits is exceeded
	// Body is what is answered then; may be empty.
	Body []byte
	// Reset is how long the limit lasts that is exceeded; 0 when the service does not say it.
	Reset time.Duration
	// Request and Response are changes of the request and of the answer.
	Request, Response []HeaderChange
	// Metadata is what the service tells of the request, the members of a JSON object.
	Metadata map[string]any
}

// A RateLimit asks a service envoy.service.ratelimit.v3.RateLimitService. It is safe for concurrent use.
type RateLimit struct {
	should  func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error)
	domain  string
	headers bool
}

// NewRateLimit returns a RateLimit that asks s about limits of domain. With headers, answers say what is
// left, as draft 3 of the RateLimit header fields has it.
func NewRateLimit(s *Service, domain string, headers bool) *RateLimit {
	return &RateLimit{
		should: Unary[rlsv3.RateLimitRequest, rlsv3.RateLimitResponse](s, rlsv3.RateLimitService_ShouldRateLimit_FullMethodName),
		domain: domain, headers: headers,
	}
}

// Take counts one request against the limits that the service has for the descriptors, of which there is one at least. Its errors say that
// the service can't be asked, has failed or has answered what can't be used.
func (l *RateLimit) Take(ctx context.Context, list []Descriptor) (*Counted, error) {
	return l.ask(ctx, list, nil)
}

// Add counts hits, which are known only now, against the limits that the service has for the descriptors. With 0 it asks
// whether a limit is exceeded, and counts nothing.
func (l *RateLimit) Add(ctx context.Context, list []Descriptor, hits uint64) (*Counted, error) {
	return l.ask(ctx, list, wrapperspb.UInt64(hits))
}

func (l *RateLimit) ask(ctx context.Context, list []Descriptor, hits *wrapperspb.UInt64Value) (*Counted, error) {
	q := &rlsv3.RateLimitRequest{Domain: l.domain}
	for _, d := range list {
		out := &ratelimitv3.RateLimitDescriptor{HitsAddend: hits}
		for _, e := range d {
			out.Entries = append(out.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: e.Key, Value: text(e.Value)})
		}
		q.Descriptors = append(q.Descriptors, out)
	}
	a, err := l.should(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &Counted{Metadata: membersOf(a.GetDynamicMetadata())}
	switch a.GetOverallCode() {
	case rlsv3.RateLimitResponse_OK:
	case rlsv3.RateLimitResponse_OVER_LIMIT:
		out.Over, out.Body = true, a.GetRawBody()
	default:
		return nil, wrongf("it says neither that a limit is exceeded nor that none is")
	}
	for _, s := range a.GetStatuses() {
		if s.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT {
			out.Reset = max(out.Reset, s.GetDurationUntilReset().AsDuration())
		}
	}
	var request, response changes
	if l.headers {
		response.tell(a.GetStatuses())
	}
	add := func(to *changes, headers []*corev3.HeaderValue) {
		for _, h := range headers {
			to.add(h.GetKey(), valueOf(h), Append)
		}
	}
	add(&request, a.GetRequestHeadersToAdd())
	add(&response, a.GetResponseHeadersToAdd())
	if out.Over { // which stands whatever is wrong with its headers
		out.Response = response.list
		return out, nil
	}
	out.Request, out.Response = request.list, response.list
	if request.wrong != nil {
		return nil, request.wrong
	}
	return out, response.wrong
}

// The headers of draft 3 (draft-polli-ratelimit-headers-03), as Envoy writes them.
const (
	limitHeader     = "X-Ratelimit-Limit"
	remainingHeader = "X-Ratelimit-Remaining"
	resetHeader     = "X-Ratelimit-Reset"
)

// tell adds what is left of the limit of which the least is, and what limits there are.
func (c *changes) tell(statuses []*rlsv3.RateLimitResponse_DescriptorStatus) {
	var least *rlsv3.RateLimitResponse_DescriptorStatus
	var all strings.Builder
	for _, s := range statuses {
		limit := s.GetCurrentLimit()
		if limit == nil {
			continue
		}
		if least == nil || s.GetLimitRemaining() < least.GetLimitRemaining() {
			least = s
		}
		window := windowOf(limit.GetUnit())
		if window == 0 {
			continue
		}
		all.WriteString(", " + number(limit.GetRequestsPerUnit()) + ";w=" + strconv.Itoa(int(window/time.Second)))
		if name := limit.GetName(); name != "" {
			all.WriteString(`;name="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`)
		}
	}
	if least == nil {
		return
	}
	c.add(limitHeader, number(least.GetCurrentLimit().GetRequestsPerUnit())+all.String(), Overwrite)
	c.add(remainingHeader, number(least.GetLimitRemaining()), Overwrite)
	c.add(resetHeader, strconv.FormatInt(least.GetDurationUntilReset().GetSeconds(), 10), Overwrite)
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// windowOf returns how long a unit is, 0 for one that is not known.
func windowOf(u rlsv3.RateLimitResponse_RateLimit_Unit) time.Duration {
	const day = 24 * time.Hour
	switch u {
	case rlsv3.RateLimitResponse_RateLimit_SECOND:
		return time.Second
	case rlsv3.RateLimitResponse_RateLimit_MINUTE:
		return time.Minute
	case rlsv3.RateLimitResponse_RateLimit_HOUR:
		return time.Hour
	case rlsv3.RateLimitResponse_RateLimit_DAY:
		return day
	case rlsv3.RateLimitResponse_RateLimit_WEEK:
		return 7 * day
	case rlsv3.RateLimitResponse_RateLimit_MONTH:
		return 30 * day
	case rlsv3.RateLimitResponse_RateLimit_YEAR:
		return 365 * day
	default:
		return 0
	}
}

// Header returns the changes as the headers of an answer that has none yet.
func (c *Counted) Header() http.Header {
	h := http.Header{}
	for i := range c.Response {
		c.Response[i].ApplyTo(h)
	}
	return h
}
