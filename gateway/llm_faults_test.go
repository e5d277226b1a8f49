package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// A faultCell is one fault of a provider of one vendor, as one client sees it.
type faultCell struct {
	name   string // of the Backend
	fault  llmtest.Fault
	client llmtest.Dialect
	stream bool
	vendor llmtest.Vendor
	both   bool // the second provider has the same fault

	status   int
	body     []byte
	backend  string // the YAML of the Backend
	provider string // that answered, and how many were asked
	attempts int
}

// outcome returns what the table says of a cell, or why the client should not have got
// what it got.
func (c *faultCell) outcome() (string, error) {
	d := c.client
	if bytes.Contains(c.body, []byte("127.0.0.1")) {
		return "", errors.New("the client reads where the provider is")
	}
	if c.status != 200 {
		want := 2
		if c.fault.No != 0 {
			want = 1
		}
		if !c.both && c.fault.No == 0 || c.fault.After {
			return "", errors.New("it is an error")
		}
		if c.fault.No != 0 && c.status != c.fault.No {
			return "", fmt.Errorf("the status is not %d", c.fault.No)
		}
		if c.attempts != want {
			return "", fmt.Errorf("%d were asked, not %d", c.attempts, want)
		}
		if _, err := d.ReadError(c.body); err != nil {
			return "", err
		}
		return strconv.Itoa(c.status), nil
	}
	var text string
	var err error
	if c.stream {
		text, err = d.ReadStream(c.body)
	} else {
		text, err = d.Read(c.body)
	}
	if c.fault.After {
		var told *llmtest.Told
		switch {
		case !errors.As(err, &told):
			return "", fmt.Errorf("the stream does not say that it broke: %q, %w", text, cmp.Or(err, io.EOF))
		case text == "" || !strings.HasPrefix(llmtest.Broken.Text, text) || c.attempts != 1:
			return "", fmt.Errorf("%q, %d were asked", text, c.attempts)
		}
		return "error event", nil
	}
	if c.both || c.fault.No != 0 {
		return "", errors.New("it is an answer")
	}
	if err != nil || text != llmtest.Hello.Text || c.attempts != 2 || c.provider != "p2" || bytes.Contains(c.body, []byte("bro")) {
		return "", fmt.Errorf("%q of %s, %d were asked: %w", text, c.provider, c.attempts, err)
	}
	return "answered", nil
}

// ask sends the client's request of a cell.
func (c *faultCell) ask(g *testGateway) error {
	url := g.url("8080", "/llm/"+c.name+c.client.Path("asked", c.stream))
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, url, bytes.NewReader(c.client.Request("hi", c.stream)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	c.status = resp.StatusCode
	c.body, err = io.ReadAll(resp.Body)
	return err
}

// faultClients are the clients that ask, those for embeddings for whole answers only.
var faultClients = slices.Concat(llmtest.Dialects, llmtest.Embedders)

// faultCells returns all cells, each with a Backend: a faulty provider, and behind it one of
// another vendor that answers or has the same fault.
func faultCells(t *testing.T) (cells []*faultCell) {
	t.Helper()
	var good []*llmtest.Server
	for _, v := range llmtest.Everyone {
		s := llmtest.Start(v)
		t.Cleanup(func() {
			s.Close()
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
		good = append(good, s)
	}
	for i, f := range llmtest.Faults() {
		p, err := llmtest.Fail(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		for _, client := range faultClients {
			vendors := llmtest.Everyone
			if slices.Contains(llmtest.Embedders, client) {
				vendors = []llmtest.Vendor{llmtest.OpenAI, llmtest.Gemini} // who embed by a model of any name
			}
			for at, v := range vendors {
				for mode := range 4 {
					c := &faultCell{fault: f, client: client, vendor: v, stream: mode&1 == 1, both: mode&2 == 2}
					if c.stream && (!f.Stream || slices.Contains(llmtest.Embedders, client)) || !c.stream && !f.Whole || c.both && (f.After || f.No != 0) {
						continue
					}
					c.name = fmt.Sprintf("f%d-%d-%s-%d", i, client, v, mode)
					other := vendors[(at+1)%len(vendors)]
					second := good[other].Provider("")
					if c.both {
						second = llmtest.Provider(other, p.Host, p.Port, "")
					}
					c.backend = llmtest.Backend(c.name, llmtest.Provider(v, p.Host, p.Port, ""), second)
					cells = append(cells, c)
				}
			}
		}
	}
	return cells
}

// Whatever a provider does, the client gets a whole answer or an honest error, and
// docs/failover.md says which.
func TestLLMFaults(t *testing.T) {
	cells := faultCells(t)
	slices.SortStableFunc(cells, func(a, b *faultCell) int { // those that wait do so together
		return cmp.Compare(fmt.Sprint(b.fault.Slow), fmt.Sprint(a.fault.Slow))
	})
	for some := range slices.Chunk(cells, 200) {
		askAll(t, some)
	}
	tables := faultTables(t, cells)
	const path = "../docs/failover.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	intro, old, ok := strings.Cut(string(doc), "<!-- tables -->\n")
	if !ok {
		t.Fatalf("%s has no place for the tables", path)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(path, []byte(intro+"<!-- tables -->\n"+tables), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := gocmp.Diff(old, tables); diff != "" {
		t.Errorf("%s (-want +got), -update writes it:\n%s", path, diff)
	}
}

// askAll asks what cells ask, through one gateway.
func askAll(t *testing.T, cells []*faultCell) {
	t.Helper()
	var backends []string
	of := map[string]*faultCell{}
	for _, c := range cells {
		backends = append(backends, c.backend)
		of["default/"+c.name] = c
	}
	// Long enough for a provider that answers on a busy machine, short enough to wait for.
	const clocks = "clocks: {firstContent: 3s, idle: 3s, total: 3s}\n    priorityGroups:"
	g := start(t, strings.ReplaceAll(strings.Join(backends, "---\n"), "priorityGroups:", clocks))
	var group errgroup.Group
	group.SetLimit(64)
	if cells[0].fault.Slow {
		group.SetLimit(128) // which do nothing but wait
	}
	for _, c := range cells {
		group.Go(func() error {
			if err := c.ask(g); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, rec := range g.ended(len(cells)) {
		c := of[rec.Backend]
		c.provider, c.attempts = rec.LLM.Name, rec.Attempts
		if good := c.status == 200 && !c.fault.After; good != (rec.ErrorType == "") {
			t.Errorf("%s at %s, %s: the record says error %q", c.fault.Name, c.vendor, c.client, rec.ErrorType)
		}
	}
}

// faultTables returns the tables of the cells.
func faultTables(t *testing.T, cells []*faultCell) string {
	t.Helper()
	type key struct {
		fault        string
		client       llmtest.Dialect
		stream, both bool
	}
	outcomes := map[key][]string{} // of the vendors, where they differ
	for _, c := range cells {
		outcome, err := c.outcome()
		if err != nil {
			t.Errorf("%s at %s, %s, stream %v, both %v: %v\n%d %s", c.fault.Name, c.vendor, c.client, c.stream, c.both, err, c.status, c.body)
		}
		k := key{c.fault.Name, c.client, c.stream, c.both}
		if !slices.Contains(outcomes[k], outcome) {
			outcomes[k] = append(outcomes[k], outcome)
		}
	}
	var b strings.Builder
	for _, table := range []struct {
		title        string
		stream, both bool
	}{
		{"Answers that are not streamed", false, false},
		{"Streams", true, false},
		{"Answers that are not streamed, when the second provider fails in the same way", false, true},
		{"Streams, when the second provider fails in the same way before its first content", true, true},
	} {
		clients := faultClients
		if table.stream {
			clients = llmtest.Dialects
		}
		fmt.Fprintf(&b, "\n## %s\n\n| the first provider |", table.title)
		for _, d := range clients {
			fmt.Fprintf(&b, " %s |", d)
		}
		b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(clients)) + "\n")
		for _, f := range llmtest.Faults() {
			if outcomes[key{f.Name, llmtest.Chat, table.stream, table.both}] == nil {
				continue // there is no such fault
			}
			fmt.Fprintf(&b, "| %s |", f.Name)
			for _, d := range clients {
				got := outcomes[key{f.Name, d, table.stream, table.both}]
				if len(got) == 0 || slices.Contains(got, "") {
					t.Errorf("%s: the cell of %s is empty", f.Name, d)
				}
				slices.Sort(got)
				fmt.Fprintf(&b, " %s |", strings.Join(got, " or "))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
