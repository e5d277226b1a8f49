package gateway

import (
	"cmp"
	"net"
	"reflect"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream"
)

// A connection is how the endpoints of a Backend, or of a port of a Service, are reached, as the
// policies that cover it and the Backend itself say.
type connection struct {
	opts     upstream.Options
	hash     *hashing // what requests are hashed by; nil without
	identity string   // tells apart what differs; "" is the defaults
	broken   bool     // what it takes to be safe is missing: nothing is sent
}

// A connectionKey tells connections apart: by what is reached, and what it is shown.
type connectionKey struct {
	attachment
	shown string
}

// A connectionPolicy is a BackendConfigPolicy on what it covers.
type connectionPolicy struct {
	object object
	policy *v1alpha1.BackendConfigPolicy
}

// compileConnections notes what the policies about connections cover, the oldest first.
func (c *compiler) compileConnections() {
	policies := slices.Clone(c.res.BackendConfigPolicies)
	slices.SortStableFunc(policies, func(a, b *v1alpha1.BackendConfigPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range policies {
		o := objectOf(v1alpha1.KindBackendConfigPolicy, p)
		for _, t := range c.targets(o, p.Spec.TargetRefs, p.Spec.TargetSelectors) {
			at := attachment{kind: t.kind, name: t.name}
			c.connecting[at] = append(c.connecting[at], connectionPolicy{o, p})
		}
	}
	c.compileBackendTLS()
}

// serviceConnection returns how a port of a Service is reached.
func (c *compiler) serviceConnection(s *corev1.Service, p *corev1.ServicePort) *connection {
	host := s.Name + "." + s.Namespace + ".svc"
	return c.connection(attachment{kind: "Service", name: nameOf(s), section: p.Name}, host, nil)
}

// backendConnection returns how the endpoints of a Backend are reached.
func (c *compiler) backendConnection(b *v1alpha1.Backend) *connection {
	return c.connection(attachment{kind: v1alpha1.KindBackend, name: nameOf(b)}, "", b)
}

// connection returns how the endpoints of at are reached. The host is what their certificates are for
// where nothing says it and their addresses do not; the Backend is nil for a Service.
func (c *compiler) connection(at attachment, host string, b *v1alpha1.Backend) *connection {
	key := connectionKey{at, c.shown.key()}
	if done := c.connections[key]; done != nil {
		return done
	}
	conn := new(connection)
	c.connections[key] = conn
	var spec v1alpha1.BackendConfigPolicySpec
	var tls *clientTLS
	for _, p := range c.connecting[attachment{kind: at.kind, name: at.name}] {
		s := &p.policy.Spec
		if s.TLS != nil && tls == nil {
			tls = c.backendTLS(p.object, "spec.tls", s.TLS, host)
		}
		fill(&spec.LoadBalancer, s.LoadBalancer)
		fill(&spec.OutlierDetection, s.OutlierDetection)
		fill(&spec.TCPKeepalive, s.TCPKeepalive)
		fill(&spec.CommonHTTPProtocolOptions, s.CommonHTTPProtocolOptions)
		fill(&spec.HealthCheck, s.HealthCheck)
		fill(&spec.PerConnectionBufferLimitBytes, s.PerConnectionBufferLimitBytes)
		spec.ConnectTimeout = cmp.Or(spec.ConnectTimeout, s.ConnectTimeout)
	}
	if b != nil {
		fill(&spec.LoadBalancer, b.Spec.LoadBalancer)
		fill(&spec.OutlierDetection, b.Spec.OutlierDetection)
		fill(&spec.TCPKeepalive, b.Spec.TCPKeepalive)
	}
	if tls == nil {
		tls = c.serviceTLS(at, host)
	}
	if !reflect.DeepEqual(spec, v1alpha1.BackendConfigPolicySpec{}) || tls != nil {
		conn.identity = fingerprint(spec, tls.fingerprint())
	}
	conn.set(&spec)
	if tls != nil {
		conn.opts.TLS, conn.broken = tls.config, tls.config == nil
		if tls.http1 {
			conn.opts.Protocol = upstream.HTTP11
		} else if tls.http2 {
			conn.opts.Protocol = upstream.HTTP2
		}
	}
	for _, p := range c.connecting[attachment{kind: at.kind, name: at.name}] {
		conn.broken = conn.broken || c.res.Broken[p.object.ref()]
	}
	if c.rt != nil {
		conn.opts.Logger, conn.opts.Resolver = c.rt.opts.Logger, c.rt.opts.Resolver
	}
	return conn
}

// fill sets a field that an older policy left open.
func fill[T any](field **T, value *T) {
	if *field == nil {
		*field = value
	}
}

// set sets what needs no other object.
func (conn *connection) set(spec *v1alpha1.BackendConfigPolicySpec) {
	o := &conn.opts
	o.ConnectTimeout = spec.ConnectTimeout.Value()
	o.BufferLimit = or(spec.PerConnectionBufferLimitBytes, 0)
	if l := spec.LoadBalancer; l != nil {
		o.Strategy = strategyOf(l)
		conn.hash = hashingOf(l.HashPolicy)
		o.CloseOnChange = l.CloseConnectionsOnHostSetChange
		o.ByZone = l.LocalityType == v1alpha1.LocalityWeightedLb
		if l.HealthyPanicThreshold != nil {
			o.PanicPercent = new(int(*l.HealthyPanicThreshold))
		}
	}
	o.MergeWindow = defaultMergeWindow
	if l := spec.LoadBalancer; l != nil && l.UpdateMergeWindow != "" {
		o.MergeWindow = l.UpdateMergeWindow.Value()
	}
	if d := spec.OutlierDetection; d != nil {
		o.Outlier = outlierOf(d)
	}
	if k := spec.TCPKeepalive; k != nil {
		o.KeepAlive = &net.KeepAliveConfig{Enable: true, Idle: k.Time.Or(-1), Interval: k.Interval.Or(-1), Count: or(k.Probes, -1)}
	}
	if h := spec.CommonHTTPProtocolOptions; h != nil {
		o.IdleTimeout, o.MaxDuration, o.MaxResponseHeaders = h.IdleTimeout.Value(), h.MaxStreamDuration.Value(), int(h.MaxHeadersCount)
		o.MaxRequests = or(h.MaxRequestsPerConnection, 0)
		if h.IdleTimeout != "" && o.IdleTimeout == 0 {
			o.IdleTimeout = forever
		}
	}
	if h := spec.HealthCheck; h != nil {
		o.Check = checkOf(h)
	}
}

// defaultMergeWindow is how long changes of which endpoints are usable are collected, as Envoy has it.
const defaultMergeWindow = time.Second

// forever is longer than any process runs.
const forever = 100 * 365 * 24 * time.Hour

// or returns what p points to, or otherwise when it is nil.
func or(p *int32, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return int(*p)
}

func strategyOf(l *v1alpha1.LoadBalancer) upstream.Strategy {
	var slow upstream.SlowStart
	if s := l.SlowStart; s != nil {
		slow = upstream.SlowStart{Window: s.Window.Value(), MinPercent: or(s.MinWeightPercent, 10)}
		slow.Aggression, _ = strconv.ParseFloat(s.Aggression, 64) // validated; "" is 0, the default
	}
	switch l.Type {
	case v1alpha1.LoadBalancerRoundRobin:
		return upstream.RoundRobin{SlowStart: slow}
	case v1alpha1.LoadBalancerRingHash:
		return upstream.RingHash{MinSize: int(l.MinimumRingSize), MaxSize: int(l.MaximumRingSize)}
	case v1alpha1.LoadBalancerMaglev:
		return upstream.Maglev{}
	case v1alpha1.LoadBalancerRandom:
		return upstream.Random{}
	default:
		return upstream.LeastRequest{Choices: int(l.ChoiceCount), SlowStart: slow}
	}
}

func outlierOf(d *v1alpha1.OutlierDetection) *upstream.Outlier {
	o := &upstream.Outlier{
		Consecutive: or(d.Consecutive5xx, 5), ConsecutivePercent: or(d.EnforcingConsecutive5xx, 100),
		Interval: d.Interval.Value(), BaseEjection: d.BaseEjectionTime.Value(), MaxPercent: or(d.MaxEjectionPercent, 10),
	}
	if d.EnforcingSuccessRate != nil || d.SuccessRateMinimumHosts != nil || d.SuccessRateRequestVolume != nil || d.SuccessRateStdevFactor != nil {
		o.SuccessRate = &upstream.SuccessRate{
			Percent: or(d.EnforcingSuccessRate, 100), MinHosts: or(d.SuccessRateMinimumHosts, 5),
			RequestVolume: or(d.SuccessRateRequestVolume, 100), StdevFactor: or(d.SuccessRateStdevFactor, 1900),
		}
	}
	return o
}

func checkOf(h *v1alpha1.HealthCheck) *upstream.HealthCheck {
	check := &upstream.HealthCheck{
		Interval: h.Interval.Value(), Timeout: h.Timeout.Value(), Unhealthy: int(h.UnhealthyThreshold), Healthy: int(h.HealthyThreshold),
	}
	if h.GRPC != nil {
		check.GRPC = &upstream.GRPCCheck{Service: h.GRPC.ServiceName, Authority: h.GRPC.Authority}
	} else {
		check.Method, check.Path, check.Host = cmp.Or(h.HTTP.Method, "GET"), h.HTTP.Path, h.HTTP.Host
	}
	return check
}

// connected returns the pool of that identity, whose endpoints are reached by conn.
func (c *compiler) connected(conn *connection, identity string, protocol upstream.Protocol, addresses []string) *upstream.Pool {
	opts := conn.opts
	switch {
	case opts.TLS != nil && protocol == upstream.H2C:
		opts.Protocol = upstream.HTTP2
	case opts.TLS == nil:
		opts.Protocol = protocol
	}
	identity = identity + "/" + strconv.Itoa(int(opts.Protocol))
	if conn.identity != "" {
		identity += "/" + conn.identity
	}
	return c.poolOf(identity, opts, addresses)
}
