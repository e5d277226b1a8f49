package telemetry

import "github.com/prometheus/client_golang/prometheus"

// countTokens is the operation that takes no tokens.
const countTokens = "count_tokens"

// inferenceMetrics are the newer series of OpenTelemetry's conventions for the tokens of generative AI, which
// are still to change: gen_ai.client.inference.usage.* and gen_ai.client.inference.operation.*. A nil
// inferenceMetrics counts nothing.
type inferenceMetrics struct {
	input, output, cacheRead, cacheWrite, reasoning *prometheus.CounterVec
	inputs, outputs                                 *prometheus.HistogramVec
}

func newInferenceMetrics() *inferenceMetrics {
	labels := []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"}
	counter := func(name string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gen_ai_client_inference_usage_" + name + "_total", Help: "Tokens by what they are (OpenTelemetry gen_ai.client.inference.usage.*).",
		}, append(labels, "gen_ai_token_modality"))
	}
	histogram := func(name string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gen_ai_client_inference_operation_" + name, Help: "Tokens of an operation (OpenTelemetry gen_ai.client.inference.operation.*).",
			Buckets: prometheus.ExponentialBuckets(1, 4, 14),
		}, labels)
	}
	return &inferenceMetrics{
		input: counter("input_tokens"), output: counter("output_tokens"), cacheRead: counter("cache_read_input_tokens"),
		cacheWrite: counter("cache_write_input_tokens"), reasoning: counter("reasoning_output_tokens"),
		inputs: histogram("input_tokens"), outputs: histogram("output_tokens"),
	}
}

func (m *inferenceMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.input, m.output, m.cacheRead, m.cacheWrite, m.reasoning, m.inputs, m.outputs}
}

// operation counts an operation that has ended, also one without an answer: with no tokens. What providers don't
// tell to be sound is of unknown modality, since pictures may be in it.
func (m *inferenceMetrics) operation(l *LLM, asked, model string) {
	if m == nil || l.Operation == countTokens {
		return
	}
	u := &l.Usage
	add := func(c *prometheus.CounterVec, n int64, modality string) {
		c.WithLabelValues(l.Operation, l.Provider, asked, model, modality).Add(float64(max(n, 0)))
	}
	add(m.input, u.Input-u.AudioInput, "unknown")
	add(m.output, u.Output-u.AudioOutput, "unknown")
	add(m.cacheRead, u.CacheRead, "unknown")
	add(m.cacheWrite, u.CacheWrite, "unknown")
	add(m.reasoning, u.Reasoning, "unknown")
	if u.AudioInput > 0 {
		add(m.input, u.AudioInput, "audio")
	}
	if u.AudioOutput > 0 {
		add(m.output, u.AudioOutput, "audio")
	}
	if u.Known {
		m.inputs.WithLabelValues(l.Operation, l.Provider, asked, model).Observe(float64(u.Input))
		m.outputs.WithLabelValues(l.Operation, l.Provider, asked, model).Observe(float64(u.Output))
	}
}
