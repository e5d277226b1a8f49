package bedrock

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// thinking writes how much a model is to think that is not Claude, in the words of its family
// (User Guide, Inference request parameters). It reports whether sampling settings are
// excluded.
func (e *encoder) thinking(limited bool) (alone bool) {
	r := e.Thinking()
	if r.Path == "" {
		return false
	}
	level := r.Level()
	switch {
	case e.family == nova && strings.Contains(e.Model, "nova-2") && (level != "" || r.Off):
		return e.nova(&r, limited)
	case e.family == gptOSS && !r.Off && level != "":
		e.own.Set("reasoning_effort", dialect.String(atMost(level, "high")))
	case e.family == gpt && (level != "" || r.Off):
		if level == "minimal" {
			level = "low"
		}
		var o dialect.Object
		o.Set("effort", dialect.String(level))
		e.own.Set("reasoning", o.Value())
	default:
		e.Drop(r.Path)
	}
	if r.Budget > 0 && r.Effort != "" {
		e.Drop(r.Path + ".budget_tokens")
	}
	return false
}

// atMost returns the level, but none that is not among low, medium and high.
func atMost(level, most string) string {
	switch level {
	case "minimal", "low":
		return "low"
	case "medium":
		return level
	default:
		return most
	}
}

// nova is the thinking of Amazon's models from version 2 on. With a high effort they take
// neither a limit nor sampling settings.
func (e *encoder) nova(r *dialect.Reasoning, limited bool) (alone bool) {
	var o dialect.Object
	if r.Off {
		o.Set("type", jsontext.Value(`"disabled"`))
		e.own.Set("reasoningConfig", o.Value())
		return false
	}
	level := atMost(r.Level(), "high")
	if level == "high" && limited {
		level = "medium"
	}
	o.Set("type", jsontext.Value(`"enabled"`))
	o.Set("maxReasoningEffort", dialect.String(level))
	e.own.Set("reasoningConfig", o.Value())
	return level == "high"
}
