// Package configtest compares what a configuration file is told with a golden file,
// for tests of every package that finds problems in resources.
//
// A fixture is a file NAME.bad.yaml, with the rendered report in NAME.bad.txt, or a
// file NAME.good.yaml, which must have no report at all. The comment at the head of
// a fixture says why it is there. It is used by tests only.
package configtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
)

// Options configure [Run].
type Options struct {
	// Dir is where the fixtures are.
	Dir string
	// Check returns what is wrong with resources, as gateway.Compile does. May be nil.
	Check func(res *config.Resources) *config.Report
	// Update writes the golden files of bad fixtures instead of comparing.
	Update bool
}

// Run tests each fixture in a test of its own, and returns how many bad and good
// ones there are.
func Run(t *testing.T, opts Options) (bad, good int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(opts.Dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		switch {
		case strings.HasSuffix(name, ".bad.yaml"):
			bad++
		case strings.HasSuffix(name, ".good.yaml"):
			good++
		default:
			t.Errorf("%s is neither NAME.bad.yaml nor NAME.good.yaml", path)
			continue
		}
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) { fixture(t, opts, path) })
	}
	return bad, good
}

// fixture tests one fixture.
func fixture(t *testing.T, opts Options, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := Report(t, filepath.Base(path), text, opts.Check)
	if strings.HasSuffix(path, ".good.yaml") {
		if got != "" {
			t.Errorf("a good fixture has problems:\n%s", got)
		}
		return
	}
	if got == "" {
		t.Fatal("a bad fixture has no problem")
	}
	golden := strings.TrimSuffix(path, ".yaml") + ".txt"
	if opts.Update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v: run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the report differs (-want +got); if it is right, run the test with -update:\n%s", diff)
	}
}

// Report returns the rendered report of a file, "" when there are no problems. It
// fails the test when a problem has no code in the table, no message, or a position
// outside of the file.
func Report(t *testing.T, name string, text []byte, check func(*config.Resources) *config.Report) string {
	t.Helper()
	res, report := config.LoadFiles([]config.File{{Name: name, Text: text}})
	switch {
	case check == nil:
	case report.Has(config.Invalid):
		res.CheckRest(report, check)
	default:
		report.Merge(check(res))
	}
	known := map[string]bool{}
	for _, c := range config.Codes() {
		known[c.ID] = true
	}
	lines := bytes.Count(text, []byte("\n")) + 1
	for _, p := range report.Problems {
		if !known[p.Code] || p.Message == "" {
			t.Errorf("a problem without a known code or a message: %+v", p)
		}
		if p.Position.File != name || p.Position.Line > lines {
			t.Errorf("a problem without a position in the file: %+v", p)
		}
	}
	var out bytes.Buffer
	if err := config.Render(&out, report, res.Positions.Sources(), config.Options{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
