package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestConformance runs the official suite against go-sdk's fixture, directly and
// through the gateway with that one target and bare names, and compares check by
// check: what passes directly passes through the gateway.
func TestConformance(t *testing.T) {
	expected := expectedFailures(t)
	for revision, stateless := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			fixture := startFixture(t, stateless)
			// run, not serve: the suite's scenario on DNS rebinding is about servers that
			// listen on loopback only.
			g := startGateway(t, "run", nil, func(port int) string {
				return manifest(port, static("fixture", fixture, "/")) + "    prefixMode: Never\n"
			})
			direct := runSuite(t, revision, fmt.Sprintf("http://127.0.0.1:%d/", fixture))
			through := runSuite(t, revision, g.url())

			passes := 0
			for _, check := range slices.Sorted(maps.Keys(direct)) {
				if rank(direct[check].Status) > rank("WARNING") {
					continue // the fixture's own failure
				}
				got, reason := through[check], expected[revision+" "+check]
				switch {
				case rank(got.Status) <= rank(direct[check].Status), got.Status == "" && notApplicable(direct, through, check):
					passes++
					if reason != "" {
						t.Errorf("%s passes, yet conformance-expected-failures.yaml expects it to fail: remove the line", check)
					}
				case reason != "":
					t.Logf("%s: %s, as expected: %s", check, got.Status, reason)
				default:
					t.Errorf("%s: %s directly, %q through the gateway: %s", check, direct[check].Status, got.Status, got.Message)
				}
			}
			t.Logf("%d of %d checks pass through the gateway as they do directly", passes, len(direct))
			// A suite that ran nothing proves nothing.
			if least := map[string]int{"2025-11-25": 80, "2026-07-28": 160}[revision]; passes < least {
				t.Errorf("only %d checks pass, expected at least %d", passes, least)
			}
		})
	}
}

// A check is one result of the suite.
type check struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	Status      string `json:"status"`
	Message     string `json:"errorMessage"`
}

// rank orders the statuses of checks, best first. INFO and SKIPPED are no failures: the
// suite says so of what is optional, such as streams in place of JSON.
func rank(status string) int {
	switch status {
	case "SUCCESS", "INFO", "SKIPPED":
		return 0
	case "WARNING":
		return 1
	case "FAILURE":
		return 2
	default:
		return 3
	}
}

// notApplicable reports whether the suite left a check out through the gateway because
// what it is about was not there: then it says why, in a check with the status
// INFO that the direct run does not have, and nothing else of the scenario failed.
func notApplicable(direct, through map[string]check, missing string) bool {
	scenario, _, _ := strings.Cut(missing, " ")
	said := false
	for name, c := range through {
		if !strings.HasPrefix(name, scenario+" ") {
			continue
		}
		if rank(c.Status) > 0 {
			return false
		}
		if _, both := direct[name]; c.Status == "INFO" && !both {
			said = true
		}
	}
	return said
}

// runSuite runs the official suite's requirements of a revision against url and
// returns its checks under "scenario check number": a check can occur several times.
func runSuite(t *testing.T, revision, url string) map[string]check {
	t.Helper()
	dir := t.TempDir()
	stdout, stderr, _ := output(t, nil, node(t), npmScript(t, "@modelcontextprotocol", "conformance", "dist", "index.js"),
		"server", "--url", url, "--requirements", revision, "-o", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the suite left no checks: %v\n%s\n%s", err, stdout, stderr)
	}
	checks := map[string]check{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var results []check
		if err := json.Unmarshal(data, &results); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		scenario := scenarioTime.ReplaceAllString(strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "server-"), "")
		for _, c := range results {
			for n := 1; ; n++ {
				key := fmt.Sprintf("%s %s %d", scenario, c.ID, n)
				if _, taken := checks[key]; !taken {
					checks[key] = c
					break
				}
			}
		}
	}
	return checks
}

var scenarioTime = regexp.MustCompile(`-\d{4}-\d\d-\d\dT[-\d]+Z$`)

// expectedFailures reads what is known to fall short: "revision scenario check number" to the reason.
func expectedFailures(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("conformance-expected-failures.yaml")
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	if err := yaml.UnmarshalStrict(data, &reasons); err != nil {
		t.Fatal(err)
	}
	for check, reason := range reasons {
		if strings.TrimSpace(reason) == "" {
			t.Errorf("%s is expected to fail without a reason", check)
		}
		// These are what a gateway is for.
		for _, never := range []string{"tools-", "lifecycle", "initialize", "http-header", "http-custom-header", "dns-rebinding", "server-sse"} {
			if fields := strings.Fields(check); len(fields) < 2 || strings.Contains(fields[1], never) {
				t.Errorf("%q may not be expected to fail", check)
			}
		}
	}
	return reasons
}
