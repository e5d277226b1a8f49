package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// conformanceMark is where what is not written by TestConformance begins in docs/conformance.md.
const conformanceMark = "\n<!-- Written by hand from here on. -->\n"

const conformanceIntro = `# Conformance

What the official suite (` + "`@modelcontextprotocol/conformance`" + `) says of go-sdk's fixture, directly and with the gateway between. ` + "`make conformance`" + ` runs
it, and fails when this page says otherwise.

## Servers

Scenarios of which each check comes out through the gateway as it does directly, for each revision of the client and each kind of target. "HTTP+SSE"
goes through two gateways, since the fixture itself does not speak it.

`

const conformanceUnscored = `
No scenario that the suite scores is expected to fail. These the fixture itself fails, and the suite runs without scoring them:

`

const conformanceClients = `
## Clients

The suite's scenarios for clients, with go-sdk's client and the gateway in front of the suite's server: what is tested is what the gateway is to its
targets.

`

const conformanceAuthorization = `
Scenarios that do not apply:

`

// clientScenarios returns the suite's scenarios for clients, with their revisions.
func clientScenarios(t *testing.T) map[string][]string {
	t.Helper()
	stdout, _, _ := output(t, nil, node(t), npmScript(t, "@modelcontextprotocol", "conformance", "dist", "index.js"), "list")
	_, list, _ := strings.Cut(stdout, "Client scenarios")
	list, _, _ = strings.Cut(list, "Authorization server scenarios")
	scenarios := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^  - (\S+) \[(.*)\]$`).FindAllStringSubmatch(list, -1) {
		scenarios[m[1]] = strings.Split(m[2], ",")
	}
	if len(scenarios) < 40 {
		t.Fatalf("the suite lists %d scenarios for clients:\n%s", len(scenarios), stdout)
	}
	return scenarios
}

// applies says why a scenario for clients does not apply to a gateway, "" if it does.
func applies(scenario string) string {
	switch {
	case strings.HasPrefix(scenario, "auth/"):
		return "a client finds the authorization server by the metadata of the URL that it uses (RFC 9728, section 3.3), which is the gateway's; towards " +
			"its targets the gateway holds credentials, or passes on those of the client (`auth: {kind: Passthrough}`), and obtains none"
	case strings.HasPrefix(scenario, "sep-2640-"):
		return "about what a client does with skills that it read; go-sdk's client has no such scenario"
	default:
		return ""
	}
}

// runClients runs the scenarios for clients, directly and through the gateway, and writes what came of it.
func runClients(t *testing.T, page io.Writer) {
	client := filepath.Join(filepath.Dir(everythingServer), "everything-client")
	build := exec.Command("go", "build", "-o", client, "github.com/modelcontextprotocol/go-sdk/conformance/everything-client")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{wrapVariable + "=" + binary, clientVariable + "=" + client}
	all := clientScenarios(t)
	away := map[string][]string{}
	fmt.Fprintf(page, "| scenario | revisions | checks, each as directly |\n|---|---|---|\n")
	for _, scenario := range slices.Sorted(maps.Keys(all)) {
		if why := applies(scenario); why != "" {
			away[why] = append(away[why], "`"+scenario+"`")
			continue
		}
		var counts []string
		for _, revision := range all[scenario] {
			args := []string{"client", "--scenario", scenario, "--spec-version", revision, "--command"}
			direct := suite(t, nil, append(args, client)...)
			through := suite(t, env, append(args, self)...)
			for range 3 { // as for servers: the suite has clocks
				if maps.EqualFunc(direct, through, func(a, b check) bool { return rank(b.Status) <= rank(a.Status) }) {
					break
				}
				better(through, suite(t, env, append(args, self)...))
			}
			same := 0
			for _, check := range slices.Sorted(maps.Keys(direct)) {
				if got := through[check]; rank(got.Status) > rank(direct[check].Status) {
					t.Errorf("%s at %s: %s: %s directly, %q through the gateway: %s", scenario, revision, check, direct[check].Status, got.Status, got.Message)
					continue
				}
				if direct[check].Status == "SUCCESS" { // the others are notes of the suite, whose number varies
					same++
				}
			}
			counts = append(counts, fmt.Sprint(same))
		}
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", scenario, strings.Join(all[scenario], ", "), strings.Join(counts, ", "))
	}
	fmt.Fprint(page, conformanceAuthorization)
	for _, why := range slices.Sorted(maps.Keys(away)) {
		fmt.Fprintf(page, "- %s: %s.\n", strings.Join(away[why], ", "), why)
	}
}

// The variables that make the test binary the client that the suite tests: go-sdk's, behind a gateway
// of its own.
const (
	wrapVariable   = "MCPGW_E2E_GATEWAY"
	clientVariable = "MCPGW_E2E_CLIENT"
)

// wrap runs a gateway whose target is the suite's server, and the client against it. It returns the exit code
// of the client.
func wrap(server string) int {
	code, err := func() (int, error) {
		u, err := url.Parse(server)
		if err != nil {
			return 0, err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		address := l.Addr().String()
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		path := u.Path
		if path == "" {
			path = "/"
		}
		dir, err := os.MkdirTemp("", "mcpgw-e2e-client-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "gateway.yaml")
		text := manifest(port, fmt.Sprintf("{name: suite, timeout: 30s, static: {host: %s, port: %s, path: %s}}", u.Hostname(), u.Port(), path)) + "    prefixMode: Never\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return 0, err
		}
		gateway := exec.Command(os.Getenv(wrapVariable), "serve", "-f", file, "--admin-addr", "off", "--ready-addr", "off", "--metrics-addr", "off")
		gateway.Stderr = os.Stderr
		gateway.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := gateway.Start(); err != nil {
			return 0, err
		}
		defer func() { _ = gateway.Process.Kill(); _ = gateway.Wait() }()
		ctx, cancel := context.WithTimeout(context.Background(), testgateway.Patience)
		defer cancel()
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return 0, err
			}
		}
		client := exec.CommandContext(ctx, os.Getenv(clientVariable), "http://"+address+"/mcp")
		client.Stdout, client.Stderr = os.Stdout, os.Stderr
		_ = client.Run() // its exit code says it
		return client.ProcessState.ExitCode(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// answers are the handlers of a client that answers whatever it is asked. question is told of each question, and
// of its answer by what it returns.
func answers(question func() func()) *mcp.ClientOptions {
	return &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			defer question()()
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Alice", "color": "blue"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			defer question()()
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "hello"}}, nil
		},
	}
}
