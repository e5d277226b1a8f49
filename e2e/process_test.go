package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for a condition before it fails. Nothing
// passes by being fast, so it is generous.
const patience = 60 * time.Second

// nextPort is where the search for free ports goes on. It stays below the range
// that the kernel gives out by itself.
var nextPort = func() *atomic.Int32 {
	n := new(atomic.Int32)
	n.Store(int32(18000 + os.Getpid()%4000*3))
	return n
}()

// freePort returns a port of loopback that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := int(nextPort.Add(1))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// A transcript keeps what a process writes, and lets tests wait for it. It is
// safe for concurrent use.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and renewed at each write
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	close(tr.changed)
	tr.changed = make(chan struct{})
	return tr.text.Write(p)
}

func (tr *transcript) read() (string, <-chan struct{}) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String(), tr.changed
}

// String returns what was written so far.
func (tr *transcript) String() string {
	text, _ := tr.read()
	return text
}

// A process is a child of a test. It is ended with the test.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout *transcript
	stderr *transcript
	done   chan struct{} // closed when it has ended
	err    error         // of Wait, once done is closed
}

// start runs a program until the test ends.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(name, args...), stdout: newTranscript(), stderr: newTranscript(), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("stdout of %s %v:\n%s", name, args, tail(p.stdout.String()))
			t.Logf("stderr of %s %v:\n%s", name, args, tail(p.stderr.String()))
		}
	})
	return p
}

// kill ends the process group at once.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// ended waits for the process to end by itself and returns its exit code.
func (p *process) ended(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.name)
		return -1
	}
}

// waitFor waits until the process has written what matches, and returns the
// submatches.
func (p *process) waitFor(t testing.TB, tr *transcript, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		text, changed := tr.read()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.done:
			if m := re.FindStringSubmatch(tr.String()); m != nil {
				return m
			}
			t.Fatalf("%s ended (%v) without writing %s", p.name, p.err, pattern)
		case <-deadline:
			t.Fatalf("%s does not write %s", p.name, pattern)
		}
	}
}

// listening waits until something accepts connections on a port of loopback.
func (p *process) listening(t testing.TB, port int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s listens on %d", p.name, port), func() error {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v", p.name, p.err)
		default:
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}

// output runs a program to its end and returns what it wrote and its exit code.
func output(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %v does not end; it wrote:\n%s\n%s", name, args, out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually waits until condition returns nil.
func eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %v: %s: %v", patience, what, err)
		}
	}
}

// get returns the status and body of a GET.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, readAll(t, response)
}

func readAll(t testing.TB, response *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tail(text string) string {
	const most = 8000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}
