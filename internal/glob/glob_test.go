package glob

import "testing"

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"gpt-5", "gpt-5", true},
		{"gpt-5", "gpt-5-mini", false},
		{"gpt-*", "gpt-5-mini", true},
		{"gpt-*", "gpt-", true},
		{"gpt-*", "chatgpt-4o", false},
		{"*", "", true},
		{"*-mini", "gpt-5-mini", true},
		{"*-mini", "gpt-5-mini-2026", false},
		{"us.*.claude-*", "us.anthropic.claude-4", true},
		{"us.*.claude-*", "us.claude-4", false},
		{"a*a", "a", false},
		{"a*b*a", "aba", true},
		{"a*ba*a", "aba", false},
	}
	for _, test := range tests {
		if got := Match(test.pattern, test.s); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}
