package anthropic

import (
	"strconv"
	"strings"
)

// An off is how a model is told not to think.
type off uint8

// The ways.
const (
	offDisabled     off = iota // thinking of type disabled
	offBetweenTools            // of type between_tools: not before it begins to answer
	offNever                   // it always thinks
)

// A model is what there is to know of a version of Claude (Messages, Thinking, and the
// migration guides). Of names that say no version the zero value is taken: it holds for
// all up to 4.5.
type model struct {
	adaptive bool // it decides itself how much it thinks, guided by an effort, not a budget
	greedy   bool // it takes no temperature, top_p and top_k
	free     bool // it can't be told to call a tool
	off      off
	xhigh    bool // it has this effort
}

// modelOf returns what there is to know of the model of that name, which may be that of
// another platform: claude-opus-4-7, anthropic.claude-opus-4-6-v1, claude-3-7-sonnet-20250219.
func modelOf(name string) model {
	_, rest, ok := strings.Cut(name, "claude-")
	if !ok {
		return model{}
	}
	family, version, digits := "", 0, 0
	for _, word := range strings.FieldsFunc(rest, func(r rune) bool { return r == '-' || r == '@' || r == '.' }) {
		n, err := strconv.Atoi(word)
		switch {
		case err != nil && family == "":
			family = word
		case err == nil && len(word) <= 2 && digits < 2:
			version, digits = version*10+n, digits+1
		}
	}
	if digits == 1 {
		version *= 10
	}
	if digits == 0 && family == "mythos" {
		version = 47
	}
	m := model{adaptive: version >= 46, greedy: version >= 47, free: version >= 55, xhigh: version >= 47}
	switch {
	case family == "fable" && m.adaptive, family == "mythos" && m.adaptive, family == "opus" && version >= 55:
		m.off = offNever
	case version >= 55:
		m.off = offBetweenTools
	}
	return m
}

// effort returns the effort of Claude's that stands for one of package dialect.
func (m model) effort(s string) string {
	switch {
	case s == "minimal":
		return "low"
	case s == "xhigh" && !m.xhigh:
		return "high"
	default:
		return s
	}
}
