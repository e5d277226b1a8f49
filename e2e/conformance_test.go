package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"sigs.k8s.io/yaml"
)

// eraOf returns the mode of the fixture that speaks a revision: it has one for each era.
func eraOf(revision string) string {
	if revision < "2026-07-28" {
		return "legacy"
	}
	return "modern"
}

// A targetKind is a way for the fixture to be a target.
type targetKind struct {
	name string
	// mode is the era that the gateway speaks with it, "" that of the client.
	mode string
	// start starts the fixture in a mode, and a gateway that has it as a target, and returns the gateway's URL. Each run
	// has a fixture of its own: it is not what it was after the suite's scenarios on changes.
	start func(t *testing.T, mode string) string
}

// TestConformance runs the official suite against go-sdk's fixture, directly and through the gateway with the
// fixture as each kind of target, at every revision, and compares check by check: what passes directly passes
// through the gateway. No list says what is expected to fail: a difference is a failure, unless the target's mode
// is shown to fail it without a gateway. The suite's scenarios for clients run against what the gateway is to its
// targets. docs/conformance.md is written from the results with -update, and else
// must say the same.
func TestConformance(t *testing.T) {
	// run, not serve: the suite's scenario on DNS rebinding is about servers that listen on loopback only.
	run := func(t *testing.T, targets ...string) *gateway {
		return startGateway(t, "run", nil, func(port int) string { return manifest(port, targets...) + "    prefixMode: Never\n" })
	}
	over := func(t *testing.T, mode string) string {
		return static("fixture", startFixture(t, mode == "modern"), "/")
	}
	kinds := []targetKind{
		{"HTTP, legacy", "legacy", func(t *testing.T, mode string) string { return run(t, over(t, mode)).url() }},
		{"HTTP, modern", "modern", func(t *testing.T, mode string) string { return run(t, over(t, mode)).url() }},
		{"stdio", "modern", func(t *testing.T, _ string) string {
			return run(t, fmt.Sprintf("{name: fixture, timeout: 60s, stdio: {command: %q}}", everythingServer)).url()
		}},
		// The fixture does not speak HTTP+SSE; a second gateway in front of it does.
		{"HTTP+SSE", "legacy", func(t *testing.T, mode string) string {
			first := run(t, over(t, mode))
			return run(t, fmt.Sprintf("{name: fixture, static: {host: 127.0.0.1, port: %d, path: /mcp/sse, protocol: SSE}}", first.Port)).url()
		}},
		{"HTTP, beside another target", "", func(t *testing.T, mode string) string {
			return run(t, over(t, mode), static("demo", serveDemo(t), "/demo/mcp")).url()
		}},
	}
	directly := func(t *testing.T, revision, mode string) map[string]check {
		return runSuite(t, revision, fmt.Sprintf("http://127.0.0.1:%d/", startFixture(t, mode == "modern")))
	}
	unscored := notScored(t)
	var page strings.Builder
	page.WriteString(conformanceIntro)
	fmt.Fprintf(&page, "| revision | scenarios |")
	for _, k := range kinds {
		fmt.Fprintf(&page, " %s |", k.name)
	}
	page.WriteString("\n|---|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	var mu sync.Mutex
	rows, lacks, idle := map[string]string{}, map[string]string{}, map[string]string{}
	t.Run("server", func(t *testing.T) {
		for _, revision := range revisions {
			t.Run(revision, func(t *testing.T) {
				t.Parallel()
				direct := directly(t, revision, eraOf(revision))
				passing := map[string]bool{} // scenarios
				for check, result := range direct {
					scenario, _, _ := strings.Cut(check, " ")
					if rank(result.Status) <= rank("WARNING") {
						if _, failed := passing[scenario]; !failed {
							passing[scenario] = true
						}
						continue
					}
					passing[scenario] = false
					reason, ok := unscored[scenario]
					if !ok {
						t.Errorf("%s: %s directly, and the suite scores it: %s", check, result.Status, result.Message)
					}
					mu.Lock()
					idle[scenario] = reason
					mu.Unlock()
				}
				maps.DeleteFunc(passing, func(_ string, ok bool) bool { return !ok })
				if least := map[string]int{"2025-06-18": 27, "2025-11-25": 32, "2026-07-28": 40}[revision]; len(passing) < least {
					t.Errorf("only %d scenarios pass directly: a suite that runs nothing proves nothing", len(passing))
				}
				row := fmt.Sprintf("| %s | %d |", revision, len(passing))
				for _, k := range kinds {
					mode := k.mode
					if mode == "" {
						mode = eraOf(revision)
					}
					through := runSuite(t, revision, k.start(t, mode))
					// The suite waits by the clock, which a busy machine does not keep: what differs is run again.
					differs := func(name string, c check) bool {
						scenario, _, _ := strings.Cut(name, " ")
						_, lacks := carriedByNoLegacyWire[scenario]
						return passing[scenario] && !lacks && rank(through[name].Status) > rank(c.Status) && !notApplicable(direct, through, name)
					}
					var other map[string]check // the run of the target's mode itself, once it is needed
					for again := range 3 {
						left := 0
						for name, c := range direct {
							if !differs(name, c) {
								continue
							}
							if mode == "modern" && mode != eraOf(revision) && other == nil {
								other = directly(t, revision, mode)
							}
							if other == nil || rank(other[name].Status) <= rank("WARNING") {
								left++
							}
						}
						if left == 0 || again == 2 {
							break
						}
						better(through, runSuite(t, revision, k.start(t, mode)))
					}
					lacking := compare(t, k, revision, direct, through, passing, other)
					row += fmt.Sprintf(" %d", len(passing)-len(lacking))
					if len(lacking) > 0 {
						row += fmt.Sprintf(" + %d¹", len(lacking))
					}
					row += " |"
					mu.Lock()
					for scenario, why := range lacking {
						lacks[fmt.Sprintf("- %s, %s target: `%s`: %s\n", revision, mode, scenario, why)] = ""
					}
					mu.Unlock()
				}
				mu.Lock()
				defer mu.Unlock()
				rows[revision] = row
			})
		}
	})
	for _, revision := range revisions {
		page.WriteString(rows[revision] + "\n")
	}
	page.WriteString("\n¹ What the fixture can't do in the mode of the other era, whoever asks it:\n\n")
	for _, line := range slices.Sorted(maps.Keys(lacks)) {
		page.WriteString(line)
	}
	page.WriteString(conformanceUnscored)
	for _, scenario := range slices.Sorted(maps.Keys(idle)) {
		fmt.Fprintf(&page, "- `%s`: %s\n", scenario, idle[scenario])
	}
	page.WriteString(conformanceClients)
	runClients(t, &page)

	const file = "../docs/conformance.md"
	said, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(said), conformanceMark)
	if !found {
		t.Fatalf("%s has no part that is written by hand", file)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(file, []byte(page.String()+conformanceMark+rest), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(before, page.String()); diff != "" {
		t.Errorf("%s says otherwise (-it +this run; -update writes it):\n%s", file, diff)
	}
	t.Log("\n" + page.String())
}

// better takes the better results of two runs.
func better(checks, again map[string]check) {
	for name, c := range again {
		if rank(c.Status) < rank(checks[name].Status) {
			checks[name] = c
		}
	}
}

// compare fails the test for each check that passes directly, and not through the gateway, unless the mode that the
// target is in lacks it, whose own run mode is. It returns the scenarios of those, each with the reason.
func compare(t *testing.T, k targetKind, revision string, direct, through map[string]check, passing map[string]bool, mode map[string]check) map[string]string {
	t.Helper()
	lacking := map[string]string{}
	if k.mode == "legacy" && eraOf(revision) == "modern" {
		for scenario, why := range carriedByNoLegacyWire {
			if passing[scenario] {
				lacking[scenario] = why
			}
		}
	}
	for _, check := range slices.Sorted(maps.Keys(direct)) {
		scenario, _, _ := strings.Cut(check, " ")
		got := through[check]
		if !passing[scenario] || rank(got.Status) <= rank(direct[check].Status) || got.Status == "" && notApplicable(direct, through, check) {
			continue
		}
		if k.mode != "" && k.mode != eraOf(revision) {
			if lacking[scenario] != "" {
				continue
			}
			if rank(mode[check].Status) > rank("WARNING") && mode != nil {
				lacking[scenario] = strings.TrimSuffix("the mode fails it directly, too: "+mode[check].Message, ": ")
				continue
			}
		}
		t.Errorf("%s target: %s: %s directly, %q through the gateway: %s", k.name, check, direct[check].Status, got.Status, got.Message)
	}
	return lacking
}

// carriedByNoLegacyWire is what the fixture's tools say in the modern era that is not on the wire when they run in the
// legacy one: TestLegacyFixture shows it.
var carriedByNoLegacyWire = map[string]string{
	"input-required-result-basic-elicitation":       "a question of the legacy era has no name that the tool chose",
	"input-required-result-ignore-extra-params":     "as before: an answer under the name that the tool chose in the modern era is none",
	"input-required-result-multiple-input-requests": "the tool's three questions are asked one after the other",
	"input-required-result-multi-round":             "the fixture's SDK asks for one round only, and gives the second one as the result",
}

// TestLegacyFixture shows what the fixture does not do in the mode of the legacy era, with no gateway between.
func TestLegacyFixture(t *testing.T) {
	t.Parallel()
	url := fmt.Sprintf("http://127.0.0.1:%d/", startFixture(t, false))
	tap := &tap{next: &http.Transport{}}
	t.Cleanup(tap.next.(*http.Transport).CloseIdleConnections)
	var mu sync.Mutex
	open, together := 0, 0
	question := func() func() {
		mu.Lock()
		defer mu.Unlock()
		open++
		together = max(together, open)
		return func() { mu.Lock(); open--; mu.Unlock() }
	}
	sdk := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, answers(question))
	sdk.AddRoots(&mcp.Root{URI: "file:///home", Name: "home"})
	session, err := sdk.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: tap}},
		&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	call := func(tool string) string {
		tap.reset()
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{}})
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		if result.IsError {
			t.Logf("%s answers with an error: %s", tool, resultText(result))
		}
		return tap.String()
	}
	if wire := call("test_input_required_result_elicitation"); !strings.Contains(wire, "elicitation/create") || strings.Contains(wire, "user_name") {
		t.Errorf("the question has a name on the legacy wire:\n%s", wire)
	}
	if wire := call("test_input_required_result_multiple_inputs"); !strings.Contains(wire, "sampling/createMessage") || together != 1 {
		t.Errorf("%d questions were asked together:\n%s", together, wire)
	}
	if wire := call("test_input_required_result_multi_round"); !strings.Contains(wire, `"inputRequests":{"step2"`) {
		t.Errorf("the second round is asked for:\n%s", wire)
	}
}

// A tap keeps what responses say.
type tap struct {
	next http.RoundTripper
	mu   sync.Mutex
	text bytes.Buffer
}

func (tp *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := tp.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, tp), resp.Body}
	}
	return resp, err
}

func (tp *tap) Write(b []byte) (int, error) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.text.Write(b)
}

func (tp *tap) String() string {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.text.String()
}

func (tp *tap) reset() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.text.Reset()
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

// suite runs the official suite, and returns its checks under "scenario check number": a check can occur
// several times.
func suite(t *testing.T, env []string, args ...string) map[string]check {
	t.Helper()
	dir := t.TempDir()
	stdout, stderr, _ := output(t, env, node(t), append([]string{npmScript(t, "@modelcontextprotocol", "conformance", "dist", "index.js")}, append(args, "-o", dir)...)...)
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "checks.json" {
			files = append(files, path)
		}
		return err
	})
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

// runSuite runs all that the suite has for servers of a revision.
func runSuite(t *testing.T, revision, url string) map[string]check {
	t.Helper()
	if revision == "2025-06-18" { // whose requirements were not frozen
		return suite(t, nil, "server", "--url", url, "--suite", "all", "--spec-version", revision)
	}
	return suite(t, nil, "server", "--url", url, "--requirements", revision)
}

var scenarioTime = regexp.MustCompile(`-\d{4}-\d\d-\d\dT[-\d]+Z$`)

// notScored returns the scenarios that the suite runs and does not score, each with its reason.
func notScored(t *testing.T) map[string]string {
	t.Helper()
	reasons := map[string]string{}
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		data, err := os.ReadFile(npmScript(t, "@modelcontextprotocol", "conformance", "requirements", revision+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			NotScored []struct {
				Scenario, Leg, Reason, Note string
			} `json:"not_scored"`
		}
		if err := yaml.Unmarshal(data, &set); err != nil {
			t.Fatal(err)
		}
		for _, s := range set.NotScored {
			if s.Leg == "server" {
				reasons[s.Scenario] = strings.TrimSpace(s.Reason + ": " + s.Note)
			}
		}
	}
	if len(reasons) == 0 {
		t.Fatal("the suite's requirements name nothing that is not scored")
	}
	return reasons
}
