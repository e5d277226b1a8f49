package edge

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the table of docs/edge.md anew")

// ask sends a vector and returns what is answered until the connection ends.
func ask(t testing.TB, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() { _, _ = io.WriteString(c, text) }) // it may be refused before all is sent
	answer, _ := io.ReadAll(c)                            // a reset is an end, too
	_ = c.Close()
	writing.Wait()
	return said(answer)
}

// said returns the statuses of an answer.
func said(answer []byte) string {
	switch {
	case len(answer) == 0:
		return "closed"
	case len(answer) > 9 && answer[0] == 0 && answer[3] == 4:
		return "HTTP/2"
	case !bytes.HasPrefix(answer, []byte("HTTP/1.")):
		return "HTTP/0.9"
	}
	var out []string
	br := bufio.NewReader(bytes.NewReader(answer))
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		out = append(out, fmt.Sprint(resp.StatusCode))
	}
	return strings.Join(out, " ")
}

// taken reports whether an answer is that of the upstream.
func taken(answer string) bool {
	return strings.Contains(answer, "200") || answer == "HTTP/0.9" || answer == "HTTP/2"
}

// TestVectors has each vector answered by the gateway and by nginx, each in front of an upstream that reads by the letter, and
// compares the answers with the table in the documentation: nothing is smuggled, and what the gateway takes and nginx
// refuses is justified.
func TestVectors(t *testing.T) {
	behind, behindNginx := newRecorder(t), newRecorder(t)
	g := serve(t, behind.Addr().String(), policy("idleTimeout: 2s"))
	other := nginx(t, behindNginx.Addr().String())
	all := vectors()
	type row struct{ ours, nginx, seen string }
	rows := make([]row, len(all))
	gate := make(chan struct{}, 32)
	var asking sync.WaitGroup
	for i, v := range all {
		asking.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			text := strings.ReplaceAll(v.text, "{p}", fmt.Sprintf("/v%d", i))
			rows[i].nginx = ask(t, other, text)
			rows[i].ours = ask(t, g.Address, text)
		})
	}
	asking.Wait()
	for i := range all {
		var targets []string
		for _, s := range behind.of(fmt.Sprintf("/v%d ", i)) {
			targets = append(targets, s.Method+" "+regexp.MustCompile(`aaaa+`).ReplaceAllString(strings.Replace(s.Target, fmt.Sprintf("/v%d", i), "/v", 1), "a…"))
		}
		for _, s := range behind.of(fmt.Sprintf("/v%d/", i)) {
			targets = append(targets, s.Method+" "+regexp.MustCompile(`aaaa+`).ReplaceAllString(strings.Replace(s.Target, fmt.Sprintf("/v%d", i), "/v", 1), "a…"))
		}
		rows[i].seen = strings.Join(targets, ", ")
	}

	var b strings.Builder
	group := ""
	for i, v := range all {
		if v.group != group {
			group = v.group
			fmt.Fprintf(&b, "\n**%s**\n\n| sent | nginx | mcpgw | the upstream sees | |\n|---|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", v.name, rows[i].nginx, rows[i].ours, rows[i].seen, v.why)
		if taken(rows[i].ours) && !taken(rows[i].nginx) && v.why == "" {
			t.Errorf("%s: %s here, %s at nginx: mend it, or say why", v.name, rows[i].ours, rows[i].nginx)
		}
	}
	for _, r := range behind.of("smuggled") {
		t.Errorf("smuggled: %+v", r)
	}
	behind.mu.Lock()
	faults := behind.faults
	behind.mu.Unlock()
	for _, f := range faults {
		t.Errorf("the upstream can't read what it is sent: %s", f)
	}
	for _, s := range behind.of("/v") {
		for _, line := range s.Header {
			name, _, _ := strings.Cut(line, ":")
			switch name {
			case "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Upgrade", "Http2-Settings", "X-Secret", "X-Mcpgw-Peer", "Expect", "Connection":
				t.Errorf("%s gets %s", s.Target, line)
			}
		}
	}
	const file = "../../docs/edge.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- vectors: written by e2e/edge -->\n", "<!-- end of vectors -->\n"
	before, rest, ok := strings.Cut(string(doc), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if table == b.String() {
		return
	}
	if !*update {
		t.Errorf("the table in docs/edge.md differs; look at what has changed, and run the test with -update:\n%s", difference(table, b.String()))
		return
	}
	if err := os.WriteFile(file, []byte(before+begin+b.String()+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// difference returns the lines that only one text has.
func difference(was, is string) string {
	has := func(text, line string) bool { return strings.Contains("\n"+text, "\n"+line+"\n") }
	var out strings.Builder
	for line := range strings.SplitSeq(was, "\n") {
		if !has(is, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for line := range strings.SplitSeq(is, "\n") {
		if !has(was, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	return out.String()
}
