package gateway

import (
	"testing"

	"github.com/mcpgw/mcpgw/config"
)

// load reads the resources of a YAML text, which has to be without mistakes of form.
func load(t testing.TB, text string) *config.Resources {
	t.Helper()
	res, report := config.LoadFiles([]config.File{{Name: "test.yaml", Text: []byte(text)}})
	for _, p := range report.Problems {
		if p.Class == config.Invalid {
			t.Fatalf("%s: %s: %s\n%s", p.Position, p.Path, p.Message, text)
		}
	}
	return res
}
