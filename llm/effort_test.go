package llm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/llm"
)

// thinks is what a provider's request says of how much the model is to think.
func thinks(t *testing.T, body []byte) string {
	t.Helper()
	var said struct {
		Thinking         map[string]any `json:"thinking"`
		OutputConfig     map[string]any `json:"output_config"`
		GenerationConfig struct {
			ThinkingConfig map[string]any `json:"thinkingConfig"`
		} `json:"generationConfig"`
		Additional map[string]any `json:"additionalModelRequestFields"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	out := ""
	for _, m := range []map[string]any{said.Thinking, said.OutputConfig, said.GenerationConfig.ThinkingConfig, said.Additional} {
		delete(m, "display")
		delete(m, "includeThoughts")
		if len(m) > 0 {
			out += fmt.Sprint(m)
		}
	}
	return out
}

// Each effort is what comes next to it at a model, and a word that is none of them is named as dropped, or refused.
func TestEffort(t *testing.T) {
	efforts := []string{"none", "minimal", "low", "medium", "high", "xhigh", "max", "frantic"}
	budget := func(n int) string { return fmt.Sprintf("map[budget_tokens:%d type:enabled]", n) }
	adaptive := func(effort string) string { return "map[type:adaptive]map[effort:" + effort + "]" }
	google := func(n int) string { return fmt.Sprintf("map[thinkingBudget:%d]", n) }
	level := func(l string) string { return "map[thinkingLevel:" + l + "]" }
	nova := func(l string) string { return "map[reasoningConfig:map[maxReasoningEffort:" + l + " type:enabled]]" }
	off := "map[type:disabled]"
	for _, tt := range []struct {
		vendor llm.Vendor
		model  string
		want   [8]string // by effort
	}{
		{llm.Anthropic, "claude-sonnet-4-5", [...]string{off, budget(1024), budget(1024), budget(2048), budget(4096), budget(8192), budget(16384), ""}},
		{llm.Anthropic, "claude-opus-4-6", [...]string{off, adaptive("low"), adaptive("low"), adaptive("medium"), adaptive("high"), adaptive("high"), adaptive("max"), ""}},
		{llm.Anthropic, "claude-opus-4-7", [...]string{off, adaptive("low"), adaptive("low"), adaptive("medium"), adaptive("high"), adaptive("xhigh"), adaptive("max"), ""}},
		{llm.Gemini, "gemini-2.5-flash", [...]string{google(0), google(1024), google(1024), google(2048), google(4096), google(8192), google(16384), ""}},
		{llm.Gemini, "gemini-2.5-pro", [...]string{google(128), google(1024), google(1024), google(2048), google(4096), google(8192), google(16384), ""}},
		{llm.Gemini, "gemini-3-pro-preview", [...]string{level("low"), level("low"), level("low"), level("high"), level("high"), level("high"), level("high"), ""}},
		{llm.Gemini, "gemini-3-flash-preview", [...]string{level("minimal"), level("minimal"), level("low"), level("medium"), level("high"), level("high"), level("high"), ""}},
		{llm.Gemini, "gemini-3.8-flash", [...]string{level("low"), level("low"), level("low"), level("medium"), level("high"), level("high"), level("high"), ""}},
		{llm.Bedrock, "us.amazon.nova-2-lite-v1:0", [...]string{"map[reasoningConfig:map[type:disabled]]", nova("low"), nova("low"), nova("medium"), nova("high"), nova("high"), nova("high"), ""}},
		{llm.Bedrock, "anthropic.claude-sonnet-4-5-v1:0", [...]string{"map[thinking:map[type:disabled]]", "map[thinking:" + budget(1024) + "]", "map[thinking:" + budget(1024) + "]",
			"map[thinking:" + budget(2048) + "]", "map[thinking:" + budget(4096) + "]", "map[thinking:" + budget(8192) + "]", "map[thinking:" + budget(16384) + "]", ""}},
	} {
		for _, client := range []struct{ name, ask, at string }{
			{"chat", `{"model":%q,"reasoning_effort":%q,"messages":[{"role":"user","content":"hi"}]}`, "reasoning_effort"},
			{"responses", `{"model":%q,"store":false,"reasoning":{"effort":%q},"input":"hi"}`, "reasoning.effort"},
		} {
			var got [8]string
			for i, effort := range efforts {
				ask := fmt.Appendf(nil, client.ask, tt.model, effort)
				c := at(client.name, "", ask, []byte("{}"), "400\n")
				c.vendor, c.path = tt.vendor, "testdata/x/x.txtar"
				s := c.provider(strings.NewReader("{}"))
				w, _ := c.run(t, s, ask)
				got[i] = thinks(t, s.body)
				if dropped := w.Header().Get("X-Mcpgw-Dropped"); (dropped == client.at) != (effort == "frantic") {
					t.Errorf("%s: %s of %s: dropped %q", tt.model, effort, client.name, dropped)
				}
				c.Comment = []byte("[strict]")
				s = c.provider(strings.NewReader("{}"))
				if w, _ := c.run(t, s, ask); effort == "frantic" && (w.Code != 400 || s.body != nil) {
					t.Errorf("%s: %s of %s, strictly: %d %s", tt.model, effort, client.name, w.Code, w.Body)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("%s of %s: %s", tt.model, client.name, d)
			}
		}
	}
}
