package llm_test

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shown are what the cells of each provider have to show, by what stands in one of them.
var shown = map[string]func(c *cell) bool{
	"an answer at once": func(c *cell) bool { return !c.streams() && c.raw("reply head") == nil },
	"a stream":          func(c *cell) bool { return c.streams() },
	"tools":             func(c *cell) bool { return bytes.Contains(c.raw("client"), []byte(`"tools"`)) },
	"two calls at once": func(c *cell) bool { return len(calls.FindAll(c.said(), -1)) > 1 },
	"a picture":         func(c *cell) bool { return bytes.Contains(c.raw("upstream"), []byte("iVBORw0K")) },
	"thinking":          func(c *cell) bool { return thought.Match(c.said()) || thought.Match(c.raw("upstream")) },
	"an error": func(c *cell) bool {
		return strings.HasPrefix(string(c.raw("reply head")), "4") || strings.HasPrefix(string(c.raw("reply head")), "5")
	},
}

var (
	calls   = regexp.MustCompile(`"id":"call_|"type":"tool_use"|"functionCall":|"call_id":|"toolUseId":`)
	thought = regexp.MustCompile(`"thought":true|"thinking"|"reasoningContent"|"reasoning_content"|"type":"reasoning"|"reasoning_effort"|"reasoningConfig"|"thinkingConfig"`)
)

// said is what the provider replies.
func (c *cell) said() []byte {
	if frames := c.raw("frames"); frames != nil {
		return frames
	}
	return c.raw("reply")
}

// The cells show for each provider all that a conversation with it can have.
func TestCellsShow(t *testing.T) {
	has := map[string]map[string]bool{}
	for _, c := range cells(t) {
		_, provider, _ := strings.Cut(filepath.Base(filepath.Dir(c.path)), "-")
		if wanted(c.client) != "answer" || c.raw("upstream") == nil {
			continue
		}
		if provider == "chat" {
			provider = "openai"
		}
		if has[provider] == nil {
			has[provider] = map[string]bool{}
		}
		for what, ok := range shown {
			if ok(&c) {
				has[provider][what] = true
			}
		}
	}
	for provider := range vendors {
		for what := range shown {
			if provider != "chat" && !has[provider][what] {
				t.Errorf("no cell of %s shows %s", provider, what)
			}
		}
	}
}
