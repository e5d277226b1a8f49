package price

import (
	"math"
	"testing"
)

func TestDollars(t *testing.T) {
	for s, want := range map[string]Nano{"0": 0, "12.50": 12500000000, "0.000000001": 1, "999999999.999999999": 999999999999999999} {
		if got, err := ParseDollars(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".5", "5.", "-1", "1e3", "1.0000000001", "1000000000", "1,5", "$1", " 1", "1.-5", "+1"} {
		if got, err := ParseDollars(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
	for n, want := range map[Nano]string{0: "0.00", 1: "0.000000001", 12500000000: "12.50", -1500000000: "-1.50", 123456789: "0.123456789", math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808"} {
		if got := n.String(); got != want {
			t.Errorf("%d is %s, not %s", n, got, want)
		}
	}
}

// Costs to the billionth of a dollar, worked out by hand from the list prices.
func TestCost(t *testing.T) {
	for _, tc := range []struct {
		provider, model string
		usage           Usage
		want            string
	}{
		{"openai", "gpt-4o-2024-08-06", Usage{Input: 1000, Output: 500, CacheRead: 400}, "0.007"}, // 600×2.50 + 400×1.25 + 500×10
		{"openai", "gpt-4o-mini", Usage{Input: 1, Output: 1}, "0.00000075"},
		{"openai", "gpt-5-nano", Usage{Input: 1, CacheRead: 1}, "0.000000005"},
		{"openai", "GPT-5-Mini-2025-08-07", Usage{Input: 1000000}, "0.25"},
		{"azure.ai.openai", "o3-2025-04-16", Usage{Input: 10, Output: 10, Reasoning: 10}, "0.0001"},
		{"openai", "gpt-realtime", Usage{Input: 100, AudioInput: 60, CacheRead: 20, Output: 50, AudioOutput: 50}, "0.005208"},                         // 20×4 + 60×32 + 20×0.40 + 50×64
		{"anthropic", "claude-sonnet-4-5-20250929", Usage{Input: 1000, CacheRead: 300, CacheWrite: 500, CacheWriteHour: 200, Output: 10}, "0.003165"}, // 200×3 + 300×0.30 + 300×3.75 + 200×6 + 10×15
		{"aws.bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", Usage{Input: 1000, Output: 1000}, "0.0066"},
		{"aws.bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", Usage{Input: 1000, Output: 1000}, "0.006"},
		{"aws.bedrock", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-opus-4-8-v1:0", Usage{Input: 1000, CacheWrite: 100, CacheWriteHour: 100}, "0.00605"}, // 900×5.50 + 100×11
		{"openai", "gpt-6-luna-2026-09-22", Usage{Input: 272001, CacheWrite: 1, Output: 1000}, "0.05515025"},                                                                               // 272000×0.20 + 0.25 + 1000×0.75
		{"openai", "gpt-4o-realtime-preview-2025-06-03", Usage{Input: 10, AudioInput: 10}, "0.0004"},
		{"gcp.vertex_ai", "claude-opus-4-1@20250805", Usage{Input: 1000}, "0.015"},
		{"anthropic", "claude-opus-5-5", Usage{Input: 100, CacheRead: 100}, "0.00002"},
		{"gcp.gemini", "gemini-2.5-pro", Usage{Input: 200000, Output: 100, Reasoning: 50}, "0.251"},
		{"gcp.gemini", "gemini-2.5-pro", Usage{Input: 200001, Output: 100, CacheRead: 200000}, "0.0515025"}, // 1×2.50 + 200000×0.25 + 100×15
		{"gcp.gemini", "gemini-2.5-flash", Usage{Input: 100, AudioInput: 100}, "0.0001"},
		{"aws.bedrock", "amazon.nova-micro-v1:0", Usage{Input: 1000, CacheRead: 1000}, "0.00000875"},
		{"openai", "text-embedding-3-small", Usage{Input: 3}, "0.00000006"},
		{"aws.bedrock", "eu.cohere.embed-v4:0", Usage{Input: 100}, "0.000012"},
		{"aws.bedrock", "cohere.embed-english-v3", Usage{Input: 100}, "0.00001"},
		{"openai", "gpt-4o", Usage{Input: 10, CacheRead: 20, AudioInput: 20, Output: 1, Reasoning: 5, AudioOutput: 5}, "0.0000225"}, // what is more than the whole is cut
		{"openai", "gpt-4o", Usage{Input: math.MaxInt64, Output: math.MaxInt64}, "9223372036.854775807"},
		{"openai", "gpt-4o", Usage{Input: -5, CacheRead: -3}, "0.00"},
	} {
		p := BuiltIn().Find(tc.provider, tc.model)
		if p == nil {
			t.Errorf("%s of %s has no price", tc.model, tc.provider)
			continue
		}
		if got := p.Cost(tc.usage).String(); got != tc.want && got != tc.want+"0" {
			t.Errorf("%s of %s with %+v costs %s, not %s", tc.model, tc.provider, tc.usage, got, tc.want)
		}
	}
	for _, unknown := range [][2]string{{"openai", "gpt-7"}, {"openai", ""}, {"anthropic", "gpt-4o"}, {"", "gpt-4o"}, {"openai", "my-gpt-4o"},
		{"openai", "gpt-4o-transcribe"}, {"openai", "gpt-4o-mini-tts"}, {"openai", "o4-mini-high"}, {"gcp.gemini", "gemini-2.5-flash-image"}, {"gcp.gemini", "gemini-3-pro-image-preview"}, {"anthropic", "claude-opus-5-6"}} {
		if p := BuiltIn().Find(unknown[0], unknown[1]); p != nil {
			t.Errorf("%v has the price %+v", unknown, p)
		}
	}
}

// One's own prices go before those that are built in; the name that says most counts.
func TestFind(t *testing.T) {
	entry := func(provider, model string, input Nano) Entry {
		return Entry{provider, model, Price{Rates: Rates{Input: input}}}
	}
	table := New([]Entry{
		entry("", "*", 1), entry("", "gpt-*", 2), entry("", "gpt-4o", 3), entry("openai", "gpt-*", 4), entry("", "a*b*c", 5), entry("", "a*c", 6), entry("", "gpt-*", 7),
	}, BuiltIn())
	for _, tc := range []struct {
		provider, model string
		want            Nano
	}{
		{"x", "anything", 1}, {"x", "gpt-9", 2}, {"openai", "gpt-9", 4}, {"openai", "gpt-4o", 3}, {"x", "a-b-c", 5}, {"x", "abc", 5}, {"x", "ac", 6}, {"x", "ab", 1}, {"x", "acx", 1},
	} {
		if got := table.Find(tc.provider, tc.model); got == nil || got.Input != tc.want {
			t.Errorf("%s of %s: %v, not %d", tc.model, tc.provider, got, tc.want)
		}
	}
	if got := New([]Entry{entry("", "local", 0)}, BuiltIn()).Find("openai", "gpt-4o"); got == nil || got.Input == 0 {
		t.Error("what is not in one's own table is not asked of the built-in one")
	}
	if (*Table)(nil).Find("openai", "gpt-4o") != nil {
		t.Error("no table knows a price")
	}
}

// Each entry of the built-in table has a price, and none is hidden behind another of the same name.
func TestBuiltIn(t *testing.T) {
	seen := map[[2]string]bool{}
	for _, e := range BuiltIn().entries {
		key := [2]string{e.Provider, e.Model}
		if seen[key] || e.Provider == "" || e.Model == "" || e.Price.Input <= 0 {
			t.Errorf("%v: %+v", key, e.Price)
		}
		seen[key] = true
		if e.Price.CacheRead != nil && *e.Price.CacheRead > e.Price.Input {
			t.Errorf("%v: what comes from a cache costs more than what does not", key)
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d prices", len(seen))
	}
}
