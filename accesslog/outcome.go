package accesslog

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A flag is one of Envoy's response flags.
type flag struct{ short, long string }

// The flags that the gateway has a use for.
var (
	noRoute          = flag{"NR", "NoRouteFound"}
	noHealthy        = flag{"UH", "NoHealthyUpstream"}
	connectFailed    = flag{"UF", "UpstreamConnectionFailure"}
	upstreamTimeout  = flag{"UT", "UpstreamRequestTimeout"}
	retriesExhausted = flag{"URX", "UpstreamRetryLimitExceeded"}
	upstreamBroke    = flag{"UC", "UpstreamConnectionTermination"}
	clientGone       = flag{"DC", "DownstreamConnectionTermination"}
	limited          = flag{"RL", "RateLimited"}
	unauthorized     = flag{"UAEX", "UnauthorizedExternalService"}
	clientMalformed  = flag{"DPE", "DownstreamProtocolError"}
	clientSlow       = flag{"SI", "StreamIdleTimeout"}
	overloaded       = flag{"OM", "OverloadManagerTerminated"}
)

// otherFlags are those that Envoy has, too, and that are never set here.
const otherFlags = "LH UR UO DI FI RLSE IH UPE UMSDR NFCF DT NC DF DO DR"

// Flags returns the short names of all flags that a filter may name.
func Flags() []string {
	out := strings.Fields(otherFlags)
	for _, f := range []flag{noRoute, noHealthy, connectFailed, upstreamTimeout, retriesExhausted, upstreamBroke, clientGone, limited, unauthorized, clientMalformed, clientSlow, overloaded} {
		out = append(out, f.short)
	}
	return out
}

// flags returns what Envoy would flag.
func (e *Entry) flags() (out []flag) {
	code, ok := fault.Parse(e.ErrorType)
	if !ok {
		return nil
	}
	if e.byService() {
		return []flag{unauthorized}
	}
	switch code {
	case fault.NotFound:
		if e.Route == "" {
			out = append(out, noRoute)
		}
	case fault.UpstreamUnreachable:
		if e.UpstreamHost == "" {
			out = append(out, noHealthy)
		} else {
			out = append(out, connectFailed)
		}
	case fault.UpstreamTimeout:
		out = append(out, upstreamTimeout)
	case fault.UpstreamFailed:
		out = append(out, upstreamBroke)
	case fault.ClientGone:
		out = append(out, clientGone)
	case fault.RateLimited:
		out = append(out, limited)
	case fault.BadRequest, fault.HeadersTooLarge, fault.URITooLong, fault.VersionRefused:
		out = append(out, clientMalformed)
	case fault.RequestTimeout:
		out = append(out, clientSlow)
	case fault.Overloaded:
		out = append(out, overloaded)
	default:
	}
	if e.Retries > 0 && len(out) > 0 && e.Status >= http.StatusInternalServerError {
		out = append(out, retriesExhausted)
	}
	return out
}

// byService reports whether external authorization ended the request: it refused, or could not be asked.
func (e *Entry) byService() bool {
	return e.Err != nil && strings.HasPrefix(e.Err.Error(), "external authorization ")
}

// details returns why the status is what it is, in Envoy's words where it has some.
func (e *Entry) details() string {
	code, ok := fault.Parse(e.ErrorType)
	switch {
	case e.HealthCheck:
		return "health_check_ok"
	case e.ErrorType == "" && e.Direct:
		return "direct_response"
	case !ok:
		return "via_upstream" // its own errors, too
	case e.byService() && code == fault.Denied:
		return "ext_authz_denied"
	case e.byService():
		return "ext_authz_error"
	}
	switch code {
	case fault.NotFound:
		if e.Route == "" {
			return "route_not_found"
		}
	case fault.Denied:
		return "rbac_access_denied"
	case fault.RateLimited:
		return "request_rate_limited"
	case fault.UpstreamUnreachable:
		if e.UpstreamHost == "" {
			return "no_healthy_upstream"
		}
		return "upstream_reset_before_response_started{connection_failure}"
	case fault.UpstreamFailed:
		if e.Status == http.StatusBadGateway || e.Status == 0 {
			return "upstream_reset_before_response_started"
		}
		return "upstream_reset_after_response_started"
	case fault.UpstreamTimeout:
		return "response_timeout"
	case fault.ClientGone:
		return "downstream_remote_disconnect"
	case fault.TooLarge:
		return "request_payload_too_large"
	case fault.HeadersTooLarge:
		return "request_headers_too_large"
	default:
	}
	return e.ErrorType
}

// grpcStatuses are the names of gRPC's status codes, in their order.
var grpcStatuses = [...]string{"OK", "CANCELED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// grpcStatus returns the gRPC status of the answer; ok is false where it has none.
func (e *Entry) grpcStatus() (code int, ok bool) {
	for _, name := range [...]string{http.TrailerPrefix + "Grpc-Status", "Grpc-Status"} {
		if v := e.Header[name]; len(v) > 0 {
			n, err := strconv.Atoi(v[0])
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}

// inferredStatus is grpcStatus with what gRPC makes of the HTTP status where there is none.
func (e *Entry) inferredStatus() int {
	if n, ok := e.grpcStatus(); ok {
		return n
	}
	switch e.Status {
	case http.StatusOK:
		return 0
	case http.StatusBadRequest:
		return 13
	case http.StatusUnauthorized:
		return 16
	case http.StatusForbidden:
		return 7
	case http.StatusNotFound:
		return 12
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14
	default:
		return 2
	}
}
