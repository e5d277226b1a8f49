package kube

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the Prometheus series of a [Source]. All methods are safe for concurrent use, and do nothing on a nil Metrics.
type Metrics struct {
	reconciles *prometheus.CounterVec
	duration   prometheus.Histogram
	build      prometheus.Histogram
	publish    prometheus.Histogram
	writes     *prometheus.CounterVec
	applies    *prometheus.CounterVec
	leader     prometheus.Gauge
	objects    *prometheus.GaugeVec
}

// NewMetrics returns metrics that have counted nothing, registered at r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}})
	}
	m := &Metrics{
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpgw_controller_reconciles_total", Help: "Looks at all that the API server has, by whether it was other than before: changed or unchanged."}, []string{"result"}),
		duration:   histogram("mcpgw_controller_reconcile_duration_seconds", "Time of a look at all that the API server has, until what came of it was handed on."),
		build:      histogram("mcpgw_controller_build_duration_seconds", "Time to compile what has changed."),
		publish:    histogram("mcpgw_controller_publish_duration_seconds", "Time to find what each Gateway needs of what has changed, and to hand it to data planes."),
		writes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpgw_controller_status_writes_total", Help: "Writes of status, by kind of object and by result: success, stale (there is a newer version, which will be written) or error."}, []string{"kind", "result"}),
		applies:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpgw_controller_applies_total", Help: "Objects that were applied for Gateways, by kind and by result: success or error."}, []string{"kind", "result"}),
		leader:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "mcpgw_controller_leader", Help: "Whether this replica holds the lease: it deploys and writes status."}),
		objects:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mcpgw_controller_objects", Help: "Objects that are known, by kind."}, []string{"kind"}),
	}
	r.MustRegister(m.reconciles, m.duration, m.build, m.publish, m.writes, m.applies, m.leader, m.objects)
	return m
}

// reconciled counts a look at all there is, which began at a time.
func (m *Metrics) reconciled(begin time.Time, changed bool, s *set) {
	if m == nil {
		return
	}
	result := "unchanged"
	if changed {
		result = "changed"
	}
	m.reconciles.WithLabelValues(result).Inc()
	m.duration.Observe(time.Since(begin).Seconds())
	for kind, n := range s.counts() {
		m.objects.WithLabelValues(kind).Set(float64(n))
	}
}

func (m *Metrics) built(begin time.Time) {
	if m != nil {
		m.build.Observe(time.Since(begin).Seconds())
	}
}

func (m *Metrics) published(begin time.Time) {
	if m != nil {
		m.publish.Observe(time.Since(begin).Seconds())
	}
}

func (m *Metrics) wrote(kind, result string) {
	if m != nil {
		m.writes.WithLabelValues(kind, result).Inc()
	}
}

func (m *Metrics) applied(kind string, err error) {
	if m == nil {
		return
	}
	result := "success"
	if err != nil {
		result = "error"
	}
	m.applies.WithLabelValues(kind, result).Inc()
}

func (m *Metrics) leads(yes bool) {
	switch {
	case m == nil:
	case yes:
		m.leader.Set(1)
	default:
		m.leader.Set(0)
	}
}

// counts returns how many objects there are, by kind.
func (s *set) counts() map[string]int {
	r := s.resources
	return map[string]int{
		"GatewayClass": len(r.GatewayClasses), "Gateway": len(r.Gateways), "HTTPRoute": len(r.HTTPRoutes), "GRPCRoute": len(r.GRPCRoutes),
		"ReferenceGrant": len(r.ReferenceGrants), "BackendTLSPolicy": len(r.BackendTLS), "Service": len(r.Services), "EndpointSlice": len(r.EndpointSlices),
		"Secret": len(r.Secrets), "ConfigMap": len(r.ConfigMaps), "Backend": len(r.Backends), "TrafficPolicy": len(r.TrafficPolicies),
		"HTTPListenerPolicy": len(r.HTTPListenerPolicies), "BackendConfigPolicy": len(r.BackendConfigPolicies), "DirectResponse": len(r.DirectResponses),
		"GatewayExtension": len(r.GatewayExtensions), "GatewayParameters": len(r.GatewayParameters),
	}
}
