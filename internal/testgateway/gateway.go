package testgateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A Gateway is the binary, serving a file.
type Gateway struct {
	*Process
	// File is what it serves.
	File string
	// Port is for a listener, and Address the same with the host.
	Port    int
	Address string
	// Ready, Metrics and Admin are the addresses of its other listeners.
	Ready, Metrics, Admin string
}

// Options say how a gateway is run.
type Options struct {
	Command string   // default: serve
	Env     []string // added to the environment
	Args    []string // added to the arguments
}

// Serve runs the gateway until the test ends, with a Gateway of one listener ([OneListener]) and the resources, and waits until it is ready.
func Serve(t testing.TB, binary, resources string, opts Options) *Gateway {
	t.Helper()
	return ServeFile(t, binary, func(port int) string { return OneListener(port) + resources }, opts)
}

// ServeFile is as Serve, with all that write returns for a port.
func ServeFile(t testing.TB, binary string, write func(port int) string, opts Options) *Gateway {
	t.Helper()
	g := &Gateway{File: filepath.Join(t.TempDir(), "gateway.yaml"), Port: FreePort(t), Ready: FreeAddress(t), Metrics: FreeAddress(t), Admin: FreeAddress(t)}
	g.Address = fmt.Sprintf("127.0.0.1:%d", g.Port)
	g.Rewrite(t, write(g.Port))
	if opts.Command == "" {
		opts.Command = "serve"
	}
	cmd := exec.Command(binary, append([]string{opts.Command, "-f", g.File, "--admin-addr", g.Admin, "--metrics-addr", g.Metrics, "--ready-addr", g.Ready}, opts.Args...)...)
	cmd.Env = append(os.Environ(), opts.Env...)
	g.Process = Start(t, cmd)
	g.IsReady(t)
	return g
}

// IsReady waits until the gateway is ready.
func (g *Gateway) IsReady(t testing.TB) {
	t.Helper()
	Eventually(t, "the gateway is ready", func() error {
		g.Runs(t)
		resp, err := http.Get("http://" + g.Ready + "/readyz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readiness answers %s", resp.Status)
		}
		return nil
	})
}

// Rewrite replaces the file at once.
func (g *Gateway) Rewrite(t testing.TB, text string) {
	t.Helper()
	WriteFile(t, g.File, text)
}

// WriteFile replaces a file at once, as an editor does that renames.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// An Answer is what tests look at.
type Answer struct {
	Status int
	Body   string
	Header http.Header
}

// Ask sends a request and returns the whole answer. The length of the body is told where it is a [strings.Reader]; nil is none. header has
// names and values, in turn; of them, Host says which the request is for.
func (g *Gateway) Ask(t testing.TB, method, path string, body io.Reader, header ...string) Answer {
	t.Helper()
	answer, err := g.Try(t, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Try is as Ask, for an answer that may break off or not come.
func (g *Gateway) Try(t testing.TB, method, path string, body io.Reader, header ...string) (Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+g.Address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	r.Host = r.Header.Get("Host")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, string(text), resp.Header}, err
}

// Streamed is a body whose length is not told.
func Streamed(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }

// Metric returns the value of a series, 0 while it is not there.
func (g *Gateway) Metric(t testing.TB, series string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + g.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
