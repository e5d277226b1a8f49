package anthropic

import "testing"

// A version of Claude is found in each of the forms that names have.
func TestModelOf(t *testing.T) {
	old := model{}
	six := model{adaptive: true}
	seven := model{adaptive: true, greedy: true, xhigh: true}
	always := model{adaptive: true, greedy: true, xhigh: true, off: offNever}
	for name, want := range map[string]model{
		"":                                  old,
		"gpt-5.5":                           old,
		"claude-x":                          old,
		"claude-3-7-sonnet-20250219":        old,
		"claude-haiku-4-5-20251001":         old,
		"claude-sonnet-4-5@20250929":        old,
		"claude-opus-4-20250514":            old,
		"claude-sonnet-4-6":                 six,
		"us.anthropic.claude-opus-4-6-v1:0": six,
		"claude-opus-4-7":                   seven,
		"anthropic/claude-opus-4.8":         seven,
		"claude-sonnet-5":                   seven,
		"claude-opus-5@20260401":            seven,
		"claude-mythos-preview":             always,
		"claude-fable-5":                    always,
		"claude-sonnet-5-5":                 {adaptive: true, greedy: true, xhigh: true, free: true, off: offBetweenTools},
		"claude-opus-5-5":                   {adaptive: true, greedy: true, xhigh: true, free: true, off: offNever},
	} {
		if got := modelOf(name); got != want {
			t.Errorf("%s: %+v, not %+v", name, got, want)
		}
	}
}
