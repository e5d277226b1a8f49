package telemetry

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the Prometheus series of the gateway, on a registry of their own. What a
// client sends never becomes a label by itself: each label value comes from the
// configuration, from a target's catalogue or from a closed set, and is [Other] otherwise.
//
// All methods are safe for concurrent use, and do nothing on a nil Metrics.
type Metrics struct {
	registry *prometheus.Registry

	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	inFlight   prometheus.Gauge
	mirrored   *prometheus.CounterVec
	retries    *prometheus.CounterVec
	denied     *prometheus.CounterVec
	csrf       *prometheus.CounterVec
	limited    *prometheus.CounterVec
	forgot     *prometheus.CounterVec
	extensions *prometheus.CounterVec
	panics     prometheus.Counter
	unlogged   *prometheus.CounterVec
	cel        *prometheus.CounterVec
	auth       *prometheus.CounterVec
	keys       *prometheus.CounterVec

	operations *prometheus.HistogramVec
	compatible *prometheus.CounterVec
	sessions   prometheus.Gauge
	streams    *prometheus.GaugeVec
	targetUp   *prometheus.GaugeVec
	catalogue  *prometheus.GaugeVec
	broken     *prometheus.GaugeVec
	trips      *prometheus.CounterVec
	lists      *prometheus.CounterVec

	reloads     *prometheus.CounterVec
	reloaded    prometheus.Gauge
	reloadTime  prometheus.Gauge
	configInfo  *prometheus.GaugeVec
	configMutex sync.Mutex

	names names
	llm   *llmMetrics

	mu    sync.RWMutex
	http  map[httpKey]httpSeries
	calls map[callKey]callSeries
}

// Other stands for label values that are not known beforehand.
const Other = "__other__"

// buckets are the bounds of the duration histograms, in seconds: those of the
// OpenTelemetry conventions for MCP, with finer ones below for what is served from memory.
func buckets() []float64 {
	return []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}
}

// MetricsOptions configure [NewMetrics]. The zero value works.
type MetricsOptions struct {
	// Version is the gateway's own; default: that of the main module.
	Version string
	// InferenceUsage adds the newer series of OpenTelemetry's conventions for the tokens of generative AI.
	InferenceUsage bool
	// WithoutRuntime leaves out the series of the Go runtime and the process.
	WithoutRuntime bool
}

// NewMetrics returns metrics that have counted nothing.
func NewMetrics(opts MetricsOptions) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	single := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets()}, labels)
	}
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		requests:   counter("mcpgw_http_requests_total", "Requests that were accepted, by what served them and the status sent; code 0 is none.", "gateway", "listener", "route", "backend", "code"),
		duration:   histogram("mcpgw_http_request_duration_seconds", "Time from the head of a request to the end of its answer.", "gateway", "listener", "route", "backend", "code"),
		inFlight:   single("mcpgw_http_requests_in_flight", "Requests that are being served."),
		retries:    counter("mcpgw_upstream_retries_total", "Requests to upstreams that failed and that were to be tried again, by what became of it: sent, or over_budget.", "backend", "result"),
		mirrored:   counter("mcpgw_mirrored_requests_total", "Copies of requests for a mirror, by what became of them: sent, failed, or dropped.", "backend", "result"),
		csrf:       counter("mcpgw_csrf_shadowed_total", "Requests that a policy would deny for their origin, and only watches.", "policy"),
		denied:     counter("mcpgw_denied_total", "Requests and operations that a policy denied, by the object whose rule decided.", "policy", "backend"),
		limited:    counter("mcpgw_limited_total", "Requests and operations that found a limit exhausted, by the object that sets it and by what is limited.", "policy", "limit"),
		forgot:     counter("mcpgw_limit_keys_forgotten_total", "Keys of limits that were forgotten while they counted, since there are too many: they begin anew.", "policy", "limit"),
		extensions: counter("mcpgw_extension_requests_total", "Questions to the services of GatewayExtensions, by what they came to.", "extension", "stat_prefix", "result"),
		unlogged:   counter("mcpgw_access_log_dropped_total", "Entries of the access logs of policies that were lost: the sink is too slow, or fails.", "log"),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "mcpgw_panics_total", Help: "Requests that ended in a panic of the gateway."}),
		cel:        counter("mcpgw_cel_errors_total", "Evaluations of a rule that failed: an allow rule then does not match and a deny rule does.", "policy"),
		auth:       counter("mcpgw_authentications_total", "Credentials that were looked for, by kind and by what was found.", "method", "result"),
		keys:       counter("mcpgw_jwks_fetches_total", "Fetches of the keys of an issuer of tokens.", "issuer", "result"),

		operations: histogram("mcp_server_operation_duration_seconds", "Duration of an MCP operation as the client sees it (OpenTelemetry mcp.server.operation.duration).",
			"mcp_method_name", "mcp_target", "gen_ai_tool_name", "error_type", "mcp_protocol_version"),
		compatible: counter("agentgateway_mcp_requests_total", "MCP operations, under the name that agentgateway gives them.",
			"method", "resource_type", "server", "resource", "gateway", "listener", "route", "route_rule"),
		sessions:  single("mcpgw_mcp_sessions", "MCP sessions of which this process holds state."),
		streams:   gauge("mcpgw_mcp_streams", "Streams to clients that are open, by kind.", "kind"),
		targetUp:  gauge("mcpgw_mcp_target_up", "Whether the last contact with the MCP target succeeded.", "backend", "target"),
		catalogue: gauge("mcpgw_mcp_catalogue_items", "What the MCP target offers, by kind.", "backend", "target", "kind"),
		broken:    gauge("mcpgw_mcp_target_breaker_open", "Whether the MCP target is left alone because it did not answer.", "backend", "target"),
		trips:     counter("mcpgw_mcp_target_breaker_trips_total", "How often the MCP target was found not to answer, and left alone.", "backend", "target"),
		lists:     counter("mcpgw_mcp_target_lists_total", "Lists that the MCP target was asked for, all pages of one being one.", "backend", "target", "result"),

		reloads:    counter("mcpgw_config_reloads_total", "Configurations that were delivered, by what became of them.", "result"),
		reloaded:   single("mcpgw_config_last_reload_successful", "Whether the last configuration delivered is the one that is served."),
		reloadTime: single("mcpgw_config_last_reload_success_timestamp_seconds", "When the configuration that is served was applied."),
		configInfo: gauge("mcpgw_config_info", "The hash of the configuration that is served.", "hash"),

		llm: newLLMMetrics(),

		http:  map[httpKey]httpSeries{},
		calls: map[callKey]callSeries{},
	}
	m.registry.MustRegister(m.requests, m.duration, m.inFlight, m.retries, m.mirrored, m.denied, m.csrf, m.limited, m.forgot, m.extensions, m.panics, m.unlogged, m.cel, m.auth, m.keys,
		m.operations, m.compatible, m.sessions, m.streams, m.targetUp, m.catalogue, m.broken, m.trips, m.lists,
		m.reloads, m.reloaded, m.reloadTime, m.configInfo, BuildInfo(opts.Version))
	m.registry.MustRegister(m.llm.collectors()...)
	if opts.InferenceUsage {
		m.llm.inference = newInferenceMetrics()
		m.registry.MustRegister(m.llm.inference.collectors()...)
	}
	if !opts.WithoutRuntime {
		m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return m
}

// BuildInfo returns the series that says what this process is built from. version is this program's; default: that of the main module.
func BuildInfo(version string) prometheus.Collector {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mcpgw_build_info", Help: "What this process is built from."}, []string{"version", "revision", "go_version"})
	version, revision := build(version)
	info.WithLabelValues(version, revision, runtime.Version()).Set(1)
	return info
}

// build returns the version and the revision of the running binary.
func build(version string) (string, string) {
	revision := "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if version == "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

// Handler serves the metrics in the formats of Prometheus and OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Gatherer returns the registry, for what reads the metrics in the process.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

type httpKey struct {
	gateway, listener, route, backend string
	code                              int
}

type httpSeries struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

// request counts a request that has ended.
func (m *Metrics) request(r *Record) {
	key := httpKey{r.Gateway, r.Listener, r.Route, r.Backend, r.Status}
	m.mu.RLock()
	s, ok := m.http[key]
	m.mu.RUnlock()
	if !ok {
		labels := []string{key.gateway, key.listener, key.route, key.backend, strconv.Itoa(key.code)}
		s = httpSeries{m.requests.WithLabelValues(labels...), m.duration.WithLabelValues(labels...)}
		m.mu.Lock()
		m.http[key] = s
		m.mu.Unlock()
	}
	s.requests.Inc()
	s.duration.Observe(r.Duration.Seconds())
	m.retried(r)
}

// retried counts what of a request was tried again.
func (m *Metrics) retried(r *Record) {
	if r.Retries > 0 {
		m.retries.WithLabelValues(r.Backend, "sent").Add(float64(r.Retries))
	}
	if r.Unretried > 0 {
		m.retries.WithLabelValues(r.Backend, "over_budget").Add(float64(r.Unretried))
	}
}

// Mirrored counts a copy of a request for backend; result is sent, failed or dropped.
func (m *Metrics) Mirrored(backend, result string) {
	if m != nil {
		m.mirrored.WithLabelValues(backend, result).Inc()
	}
}

// Denied counts a denial by the rule of policy, an object as Kind/namespace/name, or "".
func (m *Metrics) Denied(policy, backend string) {
	if m != nil {
		m.denied.WithLabelValues(policy, backend).Inc()
	}
}

// Limited counts what found a limit of policy, an object as Kind/namespace/name, exhausted; limit says
// which one.
func (m *Metrics) Limited(policy, limit string) {
	if m != nil {
		m.limited.WithLabelValues(policy, limit).Inc()
	}
}

// LimitForgotten counts a key that a limit of policy forgot.
func (m *Metrics) LimitForgotten(policy, limit string) {
	if m != nil {
		m.forgot.WithLabelValues(policy, limit).Inc()
	}
}

// CSRFShadowed counts a request that a policy would refuse for its origin, if it were not
// only watching.
func (m *Metrics) CSRFShadowed(policy string) {
	if m != nil {
		m.csrf.WithLabelValues(policy).Inc()
	}
}

// Extension counts a question to the service of an extension, an object as Kind/namespace/name, by what it came to: allowed, denied, ok,
// over_limit or failed.
func (m *Metrics) Extension(extension, prefix, result string) {
	if m != nil {
		m.extensions.WithLabelValues(extension, prefix, result).Inc()
	}
}

// Panic counts a request that ended in a panic.
func (m *Metrics) Panic() {
	if m != nil {
		m.panics.Inc()
	}
}

// AccessLogDropped counts entries of a policy's access log that were lost.
func (m *Metrics) AccessLogDropped(log string, n int) {
	if m != nil {
		m.unlogged.WithLabelValues(log).Add(float64(n))
	}
}

// CELError counts an evaluation of a rule of policy that failed.
func (m *Metrics) CELError(policy string) {
	if m != nil {
		m.cel.WithLabelValues(policy).Inc()
	}
}

// Authentication counts a credential that was looked for: method is jwt, api_key or basic; result
// is accepted, missing, invalid, insufficient_scope or unverifiable.
func (m *Metrics) Authentication(method, result string) {
	if m != nil {
		m.auth.WithLabelValues(method, result).Inc()
	}
}

// KeysFetched counts a fetch of the keys of an issuer that the configuration names.
func (m *Metrics) KeysFetched(issuer string, ok bool) {
	if m == nil {
		return
	}
	result := "success"
	if !ok {
		result = "failure"
	}
	m.keys.WithLabelValues(issuer, result).Inc()
}

// Reloaded notes that the configuration of that hash was applied at that time.
func (m *Metrics) Reloaded(hash string, at time.Time) {
	if m == nil {
		return
	}
	m.configMutex.Lock()
	defer m.configMutex.Unlock()
	m.reloads.WithLabelValues("applied").Inc()
	m.reloaded.Set(1)
	m.reloadTime.Set(float64(at.UnixMilli()) / 1000)
	m.configInfo.Reset()
	m.configInfo.WithLabelValues(hash).Set(1)
}

// ReloadRefused notes that a configuration was refused, and the one before it is served on.
func (m *Metrics) ReloadRefused() {
	if m == nil {
		return
	}
	m.reloads.WithLabelValues("refused").Inc()
	m.reloaded.Set(0)
}
