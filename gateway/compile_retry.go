package gateway

import (
	"fmt"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream"
)

// retryPart has requests be tried again, unless the rule says itself when they are.
func (c *compiler) retryPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.Retry
	if s == nil {
		return nil, true
	}
	retry := &upstream.Retry{Attempts: or(s.Attempts, 1), PerTry: s.PerTryTimeout.Value(), Backoff: s.BackoffBaseInterval.Value()}
	for _, code := range s.StatusCodes {
		retry.Statuses = append(retry.Statuses, [2]int{int(code), int(code)})
	}
	on := s.RetryOn
	if len(on) == 0 {
		on = []string{"connect-failure"}
	}
	for i, condition := range on {
		if !retryOn(retry, condition) {
			c.add(o, fmt.Sprintf("spec.retry.retryOn[%d]", i), finding{class: config.Warning, code: config.CodeUnused, help: "remove it"},
				"%s never happens: upstreams are not spoken to in HTTP/3", condition)
		}
		if condition == "retriable-status-codes" && len(s.StatusCodes) == 0 {
			c.add(o, fmt.Sprintf("spec.retry.retryOn[%d]", i), finding{class: config.Warning, code: config.CodeUnused, help: "add statusCodes"},
				"%s means what statusCodes lists, and it lists nothing", condition)
		}
	}
	return &webPart{attach: func(r *rule, written *compiledRule) {
		if !written.retried {
			r.retry, r.proven = retry, retry.Unexecuted()
		}
	}}, true
}

// retryOn adds a condition, as Envoy names it, to those of r. It reports false where there is no such condition
// here; the names were validated.
func retryOn(r *upstream.Retry, condition string) bool {
	status := func(first, last int) { r.Statuses = append(r.Statuses, [2]int{first, last}) }
	switch condition {
	case "5xx":
		r.On |= upstream.Unanswered
		status(500, 599)
	case "gateway-error":
		r.On |= upstream.Unanswered
		status(502, 504)
	case "reset":
		r.On |= upstream.Unanswered
	case "connect-failure", "reset-before-request":
		r.On |= upstream.Unconnected
	case "refused-stream":
		r.On |= upstream.Refused
	case "retriable-4xx":
		status(409, 409)
	case "envoy-ratelimited":
		r.RateLimited = true
	case "cancelled":
		r.GRPC = append(r.GRPC, "1")
	case "deadline-exceeded":
		r.GRPC = append(r.GRPC, "4")
	case "resource-exhausted":
		r.GRPC = append(r.GRPC, "8")
	case "internal":
		r.GRPC = append(r.GRPC, "13")
	case "unavailable":
		r.GRPC = append(r.GRPC, "14")
	case "retriable-status-codes": // which statusCodes says
	default:
		return false
	}
	return true
}

// routeRetry compiles the retry of a rule. Whatever its codes are, a request that was not answered is tried
// again (Gateway API, HTTPRouteRetry).
func (c *compiler) routeRetry(o object, path string, spec *gatewayv1.HTTPRouteRetry, cr *compiledRule) {
	if spec == nil {
		return
	}
	retry := &upstream.Retry{Attempts: 1, On: upstream.Unanswered | upstream.Refused}
	if spec.Attempts != nil {
		if retry.Attempts = *spec.Attempts; retry.Attempts < 1 {
			c.add(o, path+".retry.attempts", finding{class: config.Invalid, code: config.CodeInvalidValue, help: "remove retry to try requests once"},
				"a request is tried again at least once, not %d times", retry.Attempts)
		}
	}
	for _, code := range spec.Codes {
		retry.Statuses = append(retry.Statuses, [2]int{int(code), int(code)})
	}
	if backoff := c.duration(o, path+".retry.backoff", spec.Backoff); backoff > 0 {
		retry.Backoff, retry.AtLeast = backoff, true
	}
	cr.retried = true
	cr.rule.retry, cr.rule.proven = retry, retry.Unexecuted()
}

// routeTimeouts compiles the times of a rule: for a request as a whole, and for each try.
func (c *compiler) routeTimeouts(o object, path string, t *gatewayv1.HTTPRouteTimeouts, cr *compiledRule) {
	if t == nil {
		return
	}
	cr.timed = true
	r := &cr.rule
	r.timeout = c.duration(o, path+".timeouts.request", t.Request)
	r.try = c.duration(o, path+".timeouts.backendRequest", t.BackendRequest)
	if r.timeout > 0 && r.try > r.timeout {
		c.add(o, path+".timeouts.backendRequest", finding{class: config.Invalid, code: config.CodeInvalidValue},
			"backendRequest (%s) must not be longer than request (%s)", r.try, r.timeout)
	}
}

// duration returns a duration of the Gateway API; 0 where there is none.
func (c *compiler) duration(o object, path string, d *gatewayv1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	v, err := time.ParseDuration(string(*d))
	if err != nil || v < 0 {
		c.add(o, path, finding{class: config.Invalid, code: config.CodeInvalidValue, help: "write it as 500ms, 30s or 1h30m"}, "%q is not a duration", *d)
		return 0
	}
	return v
}

// timeoutsPart bounds requests, unless the rule does so itself, and for how long nothing may move, which it
// can't.
func (c *compiler) timeoutsPart(_ object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.Timeouts
	if s == nil || s.Request == "" && s.StreamIdle == "" {
		return nil, true
	}
	idle := c.rt.idle(s.StreamIdle.Value())
	return &webPart{attach: func(r *rule, written *compiledRule) {
		if s.Request != "" && !written.timed {
			r.timeout = s.Request.Value()
		}
		if s.StreamIdle != "" {
			r.idle, r.idleSaid = idle, true
		}
	}}, true
}

// autoHostPart has the Host of requests be the name of the host that gets them, unless a filter of the rule says
// it.
func (c *compiler) autoHostPart(_ object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.AutoHostRewrite
	if s == nil {
		return nil, true
	}
	return &webPart{attach: func(r *rule, _ *compiledRule) { r.autoHost = *s }}, true
}
