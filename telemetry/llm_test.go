package telemetry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// answered is the record of a request to a language model that has all there is.
func answered() *Record {
	return &Record{
		Start: time.Unix(0, 0).UTC(), Duration: time.Second, Status: http.StatusOK, Backend: "default/model", Attempts: 2,
		LLM: LLM{
			Operation: "chat", Provider: "openai", Name: "first", RequestModel: "gpt", SentModel: "gpt-5", ResponseModel: "gpt-5-2026", Stream: true,
			FinishReason: "stop", FirstContent: 250 * time.Millisecond, Dropped: "messages[0].name,seed",
			Usage:      TokenUsage{Known: true, Input: 10, Output: 5, CacheRead: 4, CacheWrite: 3, CacheWriteHour: 1, Reasoning: 2, AudioInput: 6, AudioOutput: 7},
			FirstToken: 200 * time.Millisecond, Streaming: 400 * time.Millisecond, Priced: true, Cost: 1250000,
		},
	}
}

// A line says what was asked, what answered, and what it cost.
func TestLLMLine(t *testing.T) {
	want := `"gen_ai.operation.name":"chat","gen_ai.provider.name":"openai","gen_ai.request.model":"gpt","gen_ai.response.model":"gpt-5-2026",` +
		`"gen_ai.response.finish_reason":"stop","gen_ai.usage.input_tokens":10,"gen_ai.usage.output_tokens":5,"gen_ai.usage.cache_read.input_tokens":4,` +
		`"gen_ai.usage.cache_creation.input_tokens":3,"gen_ai.usage.reasoning.output_tokens":2,"gen_ai.usage.audio.input_tokens":6,"gen_ai.usage.audio.output_tokens":7,"llm.cache_creation_hour_tokens":1,"llm.cost_usd":0.00125,"llm.provider":"first","llm.sent_model":"gpt-5",` +
		`"llm.first_content_ms":250,"llm.dropped":"messages[0].name,seed"`
	if got := logged(answered(), JSON); !strings.Contains(got, want) {
		t.Errorf("the line is %s", got)
	}
}

// Tokens are counted by what the answer says, and a model that never answered is no label.
func TestLLMMetrics(t *testing.T) {
	m := NewMetrics(MetricsOptions{WithoutRuntime: true})
	a := &Account{Metrics: m}
	a.End(answered())
	failed := answered()
	failed.LLM = LLM{Operation: "chat", Provider: "openai", RequestModel: "made-up"}
	failed.ErrorType = "upstream_failed"
	a.End(failed)
	want := `
# HELP mcpgw_llm_dropped_fields_total Fields of requests and answers that the other side can't express and that were left out.
# TYPE mcpgw_llm_dropped_fields_total counter
mcpgw_llm_dropped_fields_total{backend="default/model",provider="first"} 2
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "mcpgw_llm_dropped_fields_total"); err != nil {
		t.Error(err)
	}
	for series, want := range map[string]float64{
		"gen_ai_client_token_usage{gpt gpt-5-2026 input}":           10,
		"gen_ai_client_token_usage{gpt gpt-5-2026 output}":          5,
		"gen_ai_client_operation_duration_seconds{gpt gpt-5-2026 }": 1, "gen_ai_client_operation_duration_seconds{__other__  upstream_failed}": 1,
		"gen_ai_client_operation_time_to_first_chunk_seconds{gpt gpt-5-2026 }": 0.25,
		"gen_ai_server_time_to_first_token_seconds{gpt gpt-5-2026 }":           0.2,
		"gen_ai_server_time_per_output_token_seconds{gpt gpt-5-2026 }":         0.1,
	} {
		if got := sum(t, m, series); got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
}

// Costs are in the line to the billionth, with at least one digit behind the point.
func TestCostLine(t *testing.T) {
	for nano, want := range map[int64]string{0: "0.0", 1: "0.000000001", 1500000000: "1.5", 20000000000: "20.0", 123456789012: "123.456789012"} {
		rec := answered()
		rec.LLM.Cost = nano
		if got := logged(rec, JSON); !strings.Contains(got, `"llm.cost_usd":`+want+`,`) {
			t.Errorf("%d: %s", nano, got)
		}
	}
}

// What answers cost is counted by model, and what has no price as such; the newest series are there if they are asked for.
func TestCostMetrics(t *testing.T) {
	m := NewMetrics(MetricsOptions{WithoutRuntime: true, InferenceUsage: true})
	a := &Account{Metrics: m}
	a.End(answered())
	a.End(answered())
	unpriced := answered()
	unpriced.LLM.Priced, unpriced.LLM.Cost, unpriced.LLM.ResponseModel = false, 0, "own"
	a.End(unpriced)
	failed := answered()
	failed.LLM = LLM{Operation: "chat", Provider: "openai", RequestModel: "gpt"}
	a.End(failed)
	want := `
# HELP mcpgw_llm_cost_usd_total What answers cost by list prices, in US dollars.
# TYPE mcpgw_llm_cost_usd_total counter
mcpgw_llm_cost_usd_total{backend="default/model",model="gpt-5-2026",provider="first"} 0.0025
# HELP mcpgw_llm_unpriced_total Answers of models whose price is not known, which are in no cost.
# TYPE mcpgw_llm_unpriced_total counter
mcpgw_llm_unpriced_total{backend="default/model",model="own",provider="first"} 1
# HELP gen_ai_client_inference_usage_input_tokens_total Tokens by what they are (OpenTelemetry gen_ai.client.inference.usage.*).
# TYPE gen_ai_client_inference_usage_input_tokens_total counter
gen_ai_client_inference_usage_input_tokens_total{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt",gen_ai_response_model="",gen_ai_token_modality="unknown"} 0
gen_ai_client_inference_usage_input_tokens_total{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt",gen_ai_response_model="gpt-5-2026",gen_ai_token_modality="audio"} 12
gen_ai_client_inference_usage_input_tokens_total{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt",gen_ai_response_model="gpt-5-2026",gen_ai_token_modality="unknown"} 8
gen_ai_client_inference_usage_input_tokens_total{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt",gen_ai_response_model="own",gen_ai_token_modality="audio"} 6
gen_ai_client_inference_usage_input_tokens_total{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt",gen_ai_response_model="own",gen_ai_token_modality="unknown"} 4
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "mcpgw_llm_cost_usd_total", "mcpgw_llm_unpriced_total", "gen_ai_client_inference_usage_input_tokens_total"); err != nil {
		t.Error(err)
	}
	for series, want := range map[string]float64{"gen_ai_client_inference_operation_input_tokens{gpt gpt-5-2026 }": 20, "gen_ai_client_inference_operation_output_tokens{gpt own }": 5} {
		if got := sum(t, m, series); got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
	if n, _ := testutil.GatherAndCount(NewMetrics(MetricsOptions{WithoutRuntime: true}).Gatherer(), "gen_ai_client_inference_usage_input_tokens_total"); n != 0 {
		t.Error("they are there without being asked for")
	}
}

// sum returns the sum of a histogram: name{request model, response model, third}.
func sum(t *testing.T, m *Metrics, series string) float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range s.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			third := l["gen_ai_token_type"] + l["error_type"]
			if fmt.Sprintf("%s{%s %s %s}", f.GetName(), l["gen_ai_request_model"], l["gen_ai_response_model"], third) == series {
				return s.GetHistogram().GetSampleSum()
			}
		}
	}
	t.Errorf("there is no %s", series)
	return 0
}

// Only so many models become labels.
func TestLLMModelLimit(t *testing.T) {
	m := newLLMMetrics()
	for i := range maxModels {
		if name := fmt.Sprint(i); m.model(name, true) != name {
			t.Fatalf("model %d is not taken", i)
		}
	}
	if got := m.model("one more", true); got != Other {
		t.Errorf("one more is %q", got)
	}
	if got := m.model("0", false); got != "0" {
		t.Errorf("a known one is %q", got)
	}
}
