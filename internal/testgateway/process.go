package testgateway

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Transcript keeps what a process writes. It is safe for concurrent use.
type Transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to the transcript. It implements [io.Writer].
func (tr *Transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(p)
}

// String returns what was written so far.
func (tr *Transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// A Process is a program that runs until the test ends, at the longest.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr Transcript // of the process and its children

	done chan struct{}
	err  error // of Wait, once done is closed
}

// Start starts a program in a process group of its own, all of which is killed when the test ends. What it has written is shown when the test
// failed, and makes it fail when it tells of a race or a panic.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.Stdout, &p.Stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	cmd.WaitDelay = 5 * time.Second // for children that keep its output open
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: hack/deps installs what tests need", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		stdout, stderr := p.Stdout.String(), p.Stderr.String()
		failed := t.Failed()
		for _, sign := range []string{"DATA RACE", "panic:"} {
			if i := strings.Index(stderr, sign); i >= 0 {
				failed = true
				t.Errorf("%v has a race or a panic:\n%s", cmd, stderr[i:min(len(stderr), i+most)])
			}
		}
		if failed {
			t.Logf("stdout of %v:\n%s\nstderr:\n%s", cmd, Tail(stdout), Tail(stderr))
		}
	})
	return p
}

// Run starts a program as Start does, with variables added to its environment.
func Run(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	return Start(t, cmd)
}

// most is how much of a transcript is shown, in bytes.
const most = 16 << 10

// Tail returns the end of a text, as much of it as is good to read.
func Tail(text string) string {
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// Kill ends the process and its children at once, and returns when it has ended.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.done
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Ended waits until the process has ended by itself and returns its exit code.
func (p *Process) Ended(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Patience):
		t.Fatalf("%v does not end", p.Cmd)
		return -1
	}
}

// Terminate sends SIGTERM and returns the exit code.
func (p *Process) Terminate(t testing.TB) int {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	return p.Ended(t)
}

// Runs fails the test when the process has ended.
func (p *Process) Runs(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%v has ended: %v", p.Cmd, p.err)
	default:
	}
}

// Writes waits until what the process writes to one of its transcripts has a match of the regular expression pattern, and returns that and its
// submatches.
func (p *Process) Writes(t testing.TB, tr *Transcript, pattern string) (matches []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	Eventually(t, fmt.Sprintf("%v writes %s", p.Cmd, pattern), func() error {
		var ended bool
		select {
		case <-p.done:
			ended = true
		default:
		}
		switch matches = re.FindStringSubmatch(tr.String()); {
		case matches != nil:
			return nil
		case ended:
			t.Fatalf("%v has ended (%v) without writing %s", p.Cmd, p.err, pattern)
		}
		return errors.New("it has not")
	})
	return matches
}

// Listens waits until something accepts connections at each of the addresses.
func (p *Process) Listens(t testing.TB, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		Eventually(t, "something listens on "+address, func() error {
			p.Runs(t)
			return dial(address)
		})
	}
}
