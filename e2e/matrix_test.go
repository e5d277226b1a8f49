package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	update      = flag.Bool("update", false, "write the pages of docs that tests write")
	matrixCells = flag.String("matrix", "", "check only the cells of TestMatrix that match the expression, such as 'go-2025-11-25 stdio: roots'")
)

const matrixFile = "../docs/mcp-compatibility.md"

// A matrixFeature is a row of the matrix. Its check returns nil when the cell has
// the feature, an [absence] when there is nothing that it could have, and what is
// wrong otherwise. The checks of one client and one Backend run in the order of
// matrixFeatures, one after the other.
type matrixFeature struct {
	name  string
	check func(context.Context, *cell) error
}

func matrixFeatures() []matrixFeature {
	return []matrixFeature{
		{"revision negotiated on each leg", checkVersion},
		{"capabilities: the union, and true", checkCapabilities},
		{"instructions merged", checkInstructions},
		{"tools", checkTools},
		{"prompts", checkPrompts},
		{"resources", checkResources},
		{"resource templates", checkTemplates},
		{"URIs in results can be read", checkLinks},
		{"completion", checkCompletion},
		{"pagination", checkPagination},
		{"structured content", checkStructured},
		{"icons", checkIcons},
		{"MCP Apps: `ui://` resources", checkApps},
		{"unknown members", checkUnknown},
		{"tasks, by ids of their target", checkTasks},
		{"extensions, of both sides", checkExtensions},
		{"caching hints", checkCaching},
		{"logging", checkLogging},
		{"progress", checkProgress},
		{"cancellation, at the one target", checkCancellation},
		{"list changes: tools", checkToolsChange},
		{"list changes: prompts", checkPromptsChange},
		{"list changes: resources", checkResourcesChange},
		{"resource subscriptions", checkSubscriptions},
		{"streams: acknowledged first, tagged", checkStreams},
		{"ping by the client", checkPing},
		{"ping by the server", checkPingBack},
		{"elicitation: form", checkElicitForm},
		{"elicitation: URL", checkElicitURL},
		{"sampling", checkSampling},
		{"sampling with tools", checkSamplingWithTools},
		{"roots", checkRoots},
		{"never asked what the client can't do", checkNeverAsked},
		{"no target is asked for what it lacks", checkFanOut},
	}
}

// matrixShortfalls are the cells in which the gateway falls short, by "client
// Backend: feature", and how. Such a cell has to fail: one that works is not to be
// listed here.
func matrixShortfalls() map[string]string {
	return map[string]string{}
}

// A shortfall says that a cell fails, as was expected.
type shortfall struct{ reason string }

func (s *shortfall) Error() string { return "falls short: " + s.reason }

// expected returns the outcome of a cell in view of what is known to fail.
func expectedOutcome(cell string, outcome error) error {
	for pattern, reason := range matrixShortfalls() {
		var none *absence
		switch {
		case !regexp.MustCompile(pattern).MatchString(cell):
		case outcome == nil || errors.As(outcome, &none):
			return fmt.Errorf("it works now: remove %s from matrixShortfalls", pattern)
		default:
			return &shortfall{reason}
		}
	}
	return outcome
}

// A matrixColumn is a client that uses a Backend: one of a single target, or that
// of all targets.
type matrixColumn struct {
	client  *matrixClient
	name    string // of the Backend
	targets []*matrixTarget
	many    *matrixTarget
	err     error // of connecting
	checks  []matrixFeature
	results map[string]error // by feature
}

// TestMatrix has every client use every feature of every target, and of all
// targets behind one Backend. docs/mcp-compatibility.md holds the outcome; with
// -update the test writes it.
func TestMatrix(t *testing.T) {
	t.Parallel()
	targets, companions := startMatrixTargets(t)
	g := serve(t, func(port int) string {
		yaml := `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: http, protocol: HTTP, port: ` + fmt.Sprint(port) + `}
`
		all := []string{companions[targets[0]].yaml}
		for _, target := range targets {
			yaml += matrixBackend(target.name, target.yaml, companions[target].yaml)
			all = append(all, target.yaml)
		}
		return yaml + matrixBackend("all", all...)
	})
	clients := matrixClients(t)
	only := regexp.MustCompile(*matrixCells)
	var columns []*matrixColumn
	for _, client := range clients {
		for _, target := range targets {
			columns = append(columns, &matrixColumn{client: client, name: target.name, targets: []*matrixTarget{target}, many: companions[target]})
		}
		columns = append(columns, &matrixColumn{client: client, name: "all", targets: targets, many: companions[targets[0]]})
	}
	columns = slices.DeleteFunc(columns, func(column *matrixColumn) bool {
		for _, feature := range matrixFeatures() {
			if only.MatchString(column.client.key + " " + column.name + ": " + feature.name) {
				column.checks = append(column.checks, feature)
			}
		}
		return len(column.checks) == 0
	})
	var wg sync.WaitGroup
	width := make(chan struct{}, 6)
	for _, column := range columns {
		wg.Go(func() {
			width <- struct{}{}
			defer func() { <-width }()
			start := time.Now()
			column.run(t.Context(), fmt.Sprintf("http://127.0.0.1:%d/mcp/%s", g.Port, column.name))
			t.Logf("%s × %s: %v", column.client.what, column.name, time.Since(start).Round(time.Millisecond))
		})
	}
	wg.Wait()
	for _, column := range columns {
		if column.err != nil {
			t.Fatalf("%s × %s: %v", column.client.what, column.name, column.err)
		}
		for _, feature := range column.checks {
			var none *absence
			var short *shortfall
			if err := column.results[feature.name]; err != nil && !errors.As(err, &none) && !errors.As(err, &short) {
				t.Errorf("%s × %s: %s: %v", column.client.what, column.name, feature.name, err)
			}
		}
	}
	if *matrixCells != "" {
		return
	}
	got := matrixDocument(clients, targets, columns)
	t.Logf("\n%s", got)
	if *update {
		if err := os.WriteFile(matrixFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(matrixFile)
	if err != nil {
		t.Fatalf("%v: run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/mcp-compatibility.md differs (-want +got); if it is right, run the test with -update:\n%s", diff)
	}
}

// matrixBackend returns the YAML of a Backend that is served at /mcp/<name>.
func matrixBackend(name string, targets ...string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {type: Exact, value: /mcp/%[1]s}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %[1]s}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: %[1]s}
spec:
  type: MCP
  mcp:
    targets:
    - %[2]s
`, name, strings.Join(targets, "\n    - "))
}

func matrixClients(t *testing.T) []*matrixClient {
	t.Helper()
	var clients []*matrixClient
	for _, revision := range revisions {
		clients = append(clients, &matrixClient{
			what: "go-sdk, revision " + revision, key: "go-" + revision, revision: revision,
			dial: func(ctx context.Context, name, url string, bare bool) (peer, error) {
				return dialGo(ctx, name, revision, url, bare)
			},
		})
	}
	for version, revision := range map[string]string{"v1": "2025-11-25", "v2": "2026-07-28"} {
		ts := startTypescript(t, version)
		clients = append(clients, &matrixClient{
			what: "TypeScript SDK " + version + ", revision " + revision, key: "ts-" + version, revision: revision,
			dial: func(ctx context.Context, name, url string, bare bool) (peer, error) {
				return ts.dial(ctx, name, url, bare)
			},
		})
	}
	slices.SortFunc(clients, func(a, b *matrixClient) int { return strings.Compare(a.key, b.key) })
	return clients
}

// run checks all features.
func (m *matrixColumn) run(ctx context.Context, url string) {
	m.results = map[string]error{}
	key := m.client.key + "-" + m.name
	p, err := m.client.dial(ctx, key, url, false)
	var bare peer
	if err == nil {
		defer p.close()
		if bare, err = m.client.dial(ctx, key+"-bare", url, true); err == nil {
			defer bare.close()
		}
	}
	if err != nil {
		m.err = err
		return
	}
	for n, feature := range m.checks {
		var outcomes []error
		for i, target := range m.targets {
			c := &cell{
				client: m.client, target: target, targets: m.targets, many: m.many, url: url, peer: p, bare: bare,
				peerName: key, id: fmt.Sprintf("%s-%d-%d", key, n, i), beside: target,
			}
			// The next one that is a fullServer.
			for j := range m.targets {
				if beside := m.targets[(i+1+j)%len(m.targets)]; !beside.npm {
					c.beside = beside
					break
				}
			}
			ctx, cancel := c.patient(ctx)
			err := feature.check(ctx, c)
			cancel()
			if err != nil && len(m.targets) > 1 {
				err = fmt.Errorf("%s: %w", target.name, err)
			}
			outcomes = append(outcomes, err)
		}
		m.results[feature.name] = expectedOutcome(m.client.key+" "+m.name+": "+feature.name, together(outcomes))
	}
}

// together returns the outcome for several targets: what is wrong with any of
// them; else nil when one of them has the feature, else why none has it.
func together(outcomes []error) error {
	var wrong []error
	var none error
	has := false
	for _, err := range outcomes {
		var a *absence
		switch {
		case err == nil:
			has = true
		case errors.As(err, &a):
			none = a
		default:
			wrong = append(wrong, err)
		}
	}
	if len(wrong) > 0 || has {
		return errors.Join(wrong...)
	}
	return none
}

// matrixDocument writes the matrix: a table for each client.
func matrixDocument(clients []*matrixClient, targets []*matrixTarget, columns []*matrixColumn) []byte {
	var b bytes.Buffer
	b.WriteString(matrixPreamble)
	for _, target := range targets {
		fmt.Fprintf(&b, "- **%s**: %s, revision %s\n", target.name, target.what, target.revision)
	}
	b.WriteString("- **all**: one Backend with these five\n")
	var reasons []string
	number := func(reason string) int {
		i := slices.Index(reasons, reason)
		if i < 0 {
			i = len(reasons)
			reasons = append(reasons, reason)
		}
		return i + 1
	}
	for _, client := range clients {
		fmt.Fprintf(&b, "\n## %s\n\n| |", client.what)
		var own []*matrixColumn
		for _, column := range columns {
			if column.client == client {
				own = append(own, column)
				fmt.Fprintf(&b, " %s |", column.name)
			}
		}
		fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat(":-:|", len(own)))
		for _, feature := range matrixFeatures() {
			fmt.Fprintf(&b, "| %s |", feature.name)
			for _, column := range own {
				var none *absence
				var short *shortfall
				switch err := column.results[feature.name]; {
				case err == nil:
					b.WriteString(" ✓ |")
				case errors.As(err, &none):
					fmt.Fprintf(&b, " – %d |", number(none.reason))
				case errors.As(err, &short):
					fmt.Fprintf(&b, " ✗ %d |", number(short.reason))
				default:
					b.WriteString(" ✗ |")
				}
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n## Reasons\n\n")
	for i, reason := range reasons {
		fmt.Fprintf(&b, "%d. %s.\n", i+1, reason)
	}
	return b.Bytes()
}

const matrixPreamble = `# MCP compatibility

Which features work between which clients and servers through mcpgw. A test writes this page: it runs real clients, the
gateway's binary and real servers, uses each feature in each cell, and fails when a cell differs from what stands here. To
run it: ` + "`go test -run '^TestMatrix$' ./e2e`" + `.

- **✓** the feature works: what the client did reached the server and what the server did reached the client, as the revision of each
  says
- **✗** the gateway falls short, as that reason says
- **–** there is nothing that could work, for the reason of that number; the test makes sure that the reason is true

Each Backend has one more target, which has prompts and nothing else. Servers:

`
