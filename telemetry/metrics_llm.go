package telemetry

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxModels bounds the model names that become labels.
const maxModels = 200

// llmMetrics are the series of requests to language models, under the names of
// OpenTelemetry's conventions for generative AI.
type llmMetrics struct {
	tokens     *prometheus.HistogramVec
	compatible *prometheus.HistogramVec
	duration   *prometheus.HistogramVec
	first      *prometheus.HistogramVec
	token      *prometheus.HistogramVec
	pace       *prometheus.HistogramVec
	cost       *prometheus.CounterVec
	unpriced   *prometheus.CounterVec
	inference  *inferenceMetrics // nil when it is not asked for
	attempts   *prometheus.CounterVec
	dropped    *prometheus.CounterVec

	mu     sync.Mutex
	models map[string]bool
}

func newLLMMetrics() *llmMetrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	tokens := prometheus.ExponentialBuckets(1, 4, 14) // the bounds of the conventions
	seconds := prometheus.ExponentialBuckets(0.01, 2, 14)
	return &llmMetrics{
		tokens: histogram("gen_ai_client_token_usage", "Tokens of an answer (OpenTelemetry gen_ai.client.token.usage); input includes cached ones, output includes reasoning.", tokens,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "gen_ai_token_type"),
		compatible: histogram("agentgateway_gen_ai_client_token_usage", "The same, under the name that agentgateway gives it.", tokens,
			"gen_ai_operation_name", "gen_ai_system", "gen_ai_request_model", "gen_ai_response_model", "gen_ai_token_type"),
		duration: histogram("gen_ai_client_operation_duration_seconds", "Duration of an operation as the client sees it (OpenTelemetry gen_ai.client.operation.duration).", seconds,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "error_type"),
		first: histogram("gen_ai_client_operation_time_to_first_chunk_seconds", "Time until the first content of a stream (OpenTelemetry gen_ai.client.operation.time_to_first_chunk).", seconds,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"),
		token: histogram("gen_ai_server_time_to_first_token_seconds", "Time from the request to a provider to the first content of its answer (OpenTelemetry gen_ai.server.time_to_first_token).",
			[]float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10},
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"),
		pace: histogram("gen_ai_server_time_per_output_token_seconds", "Time for each token of a stream behind the first content (OpenTelemetry gen_ai.server.time_per_output_token).",
			[]float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5},
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"),
		cost:     counter("mcpgw_llm_cost_usd_total", "What answers cost by list prices, in US dollars.", "backend", "provider", "model"),
		unpriced: counter("mcpgw_llm_unpriced_total", "Answers of models whose price is not known, which are in no cost.", "backend", "provider", "model"),
		attempts: counter("mcpgw_llm_attempts_total", "Requests sent to a provider, by what became of them: answered, refused, failed or broken.", "backend", "provider", "result"),
		dropped:  counter("mcpgw_llm_dropped_fields_total", "Fields of requests and answers that the other side can't express and that were left out.", "backend", "provider"),
		models:   map[string]bool{},
	}
}

func (m *llmMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.tokens, m.compatible, m.duration, m.first, m.token, m.pace, m.cost, m.unpriced, m.attempts, m.dropped}
}

// model returns the name of a model as a label. Only names with which an answer came
// are taken, and not more than there can be of them.
func (m *llmMetrics) model(name string, answered bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case name == "" || m.models[name]:
		return name
	case !answered || len(m.models) >= maxModels:
		return Other
	}
	m.models[name] = true
	return name
}

// operation counts a request to a language model that has ended.
func (m *llmMetrics) operation(r *Record) {
	l := &r.LLM
	answered := l.ResponseModel != ""
	asked, model := m.model(l.RequestModel, answered), m.model(l.ResponseModel, answered)
	m.duration.WithLabelValues(l.Operation, l.Provider, asked, model, r.ErrorType).Observe(r.Duration.Seconds())
	if l.Stream && l.FirstContent > 0 {
		m.first.WithLabelValues(l.Operation, l.Provider, asked, model).Observe(l.FirstContent.Seconds())
	}
	if l.Usage.Known {
		for _, v := range []*prometheus.HistogramVec{m.tokens, m.compatible} {
			v.WithLabelValues(l.Operation, l.Provider, asked, model, "input").Observe(float64(l.Usage.Input))
			v.WithLabelValues(l.Operation, l.Provider, asked, model, "output").Observe(float64(l.Usage.Output))
		}
	}
	if l.Usage.Known {
		if l.Priced {
			m.cost.WithLabelValues(r.Backend, l.label(), model).Add(float64(l.Cost) / 1e9)
		} else if l.Operation != countTokens {
			m.unpriced.WithLabelValues(r.Backend, l.label(), model).Inc()
		}
	}
	if l.FirstToken > 0 {
		m.token.WithLabelValues(l.Operation, l.Provider, asked, model).Observe(l.FirstToken.Seconds())
		if l.Usage.Output > 1 && l.Streaming > 0 {
			m.pace.WithLabelValues(l.Operation, l.Provider, asked, model).Observe(l.Streaming.Seconds() / float64(l.Usage.Output-1))
		}
	}
	m.inference.operation(l, asked, model)
	if l.Dropped != "" {
		m.dropped.WithLabelValues(r.Backend, l.label()).Add(float64(strings.Count(l.Dropped, ",") + 1))
	}
}

// label returns which provider of the backend it was.
func (l *LLM) label() string {
	if l.Name != "" {
		return l.Name
	}
	return l.Provider
}

// LLMAttempt counts a request to a provider of a backend by its result: answered, refused,
// failed or broken.
func (m *Metrics) LLMAttempt(backend, provider, result string) {
	if m != nil {
		m.llm.attempts.WithLabelValues(backend, provider, result).Inc()
	}
}
