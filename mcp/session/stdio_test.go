package session

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// stdio returns a target that is the test binary in the given mode.
func stdio(t *testing.T, mode string, change ...func(*TargetConfig)) *Target {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := TargetConfig{
		Backend: "default/b", Name: "child", Transport: Stdio, Timeout: 20 * time.Second, Identity: t.Name(),
		Command: &Command{Path: exe, Env: []string{"MCPGW_TEST_CHILD=" + mode, "SECRET=correct-horse-battery", "GORACE=atexit_sleep_ms=0"}},
	}
	for _, c := range change {
		c(&cfg)
	}
	tg := NewTarget(cfg, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(tg.Close)
	return tg
}

func call(t *testing.T, l *Leg, tool, arg string) string {
	t.Helper()
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params(tool, arg)})
	if err != nil {
		t.Fatal(err)
	}
	return text(t, m)
}

func TestStdioEras(t *testing.T) {
	for mode, want := range map[string]protocol.Era{
		"modern": protocol.Modern, "legacy": protocol.Legacy,
		"shy": protocol.Legacy, "mute": protocol.Legacy, "noisy": protocol.Legacy,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			tg := stdio(t, mode, func(c *TargetConfig) {
				if mode == "mute" {
					c.Timeout = 2 * time.Second
				}
			})
			d, err := tg.Discover(t.Context(), client("a"), Forward{})
			if err != nil {
				t.Fatal(err)
			}
			if d.Era != want {
				t.Errorf("era is %v", d.Era)
			}
			l := open(t, tg, client("a"))
			if got := call(t, l, "echo", "hällo"); got != "hällo" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// What a modern child said about itself is asked for again when it is old; what
// cannot be asked is believed a while longer.
func TestStdioDiscoveryAges(t *testing.T) {
	for what, change := range map[string]func(*TargetConfig){
		"shared":      func(*TargetConfig) {},
		"per session": func(c *TargetConfig) { c.Command.PerSession = true },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tg := stdio(t, "modern", change)
			l := open(t, tg, client("a"))
			first, err := tg.Discover(t.Context(), client("a"), Forward{})
			if err != nil {
				t.Fatal(err)
			}
			tg.discoveries.known.Add("", &discovered{era: first.Era, disc: first, at: time.Now().Add(-2 * maxDiscoveryAge)})
			again, err := tg.Discover(t.Context(), client("a"), Forward{})
			if err != nil {
				t.Fatal(err)
			}
			if asked := again != first; asked != !tg.cfg.Command.PerSession {
				t.Errorf("asked again: %v", asked)
			}
			if again.Era != protocol.Modern || string(again.Capabilities) != string(first.Capabilities) {
				t.Errorf("it is %+v, was %+v", again, first)
			}
			if got := call(t, l, "echo", "still"); got != "still" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestStdioProgressAndRequests(t *testing.T) {
	tg := stdio(t, "legacy")
	l := open(t, tg, client("a"))
	p := protocol.Splice(params("progress", "x"), protocol.Edit{Path: []string{"_meta", "progressToken"}, Value: []byte(`"mine"`)})
	n := 0
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: p, Emit: func(m *protocol.Message) error {
		if token, _ := protocol.GetString(m.Params, "progressToken"); token != "mine" {
			t.Errorf("got %s", m.Raw)
		}
		n++
		return nil
	}})
	if err != nil || text(t, m) != "x" || n != 3 {
		t.Errorf("%d notifications, %v, %v", n, m, err)
	}
	m, err = l.Call(t.Context(), &Call{Method: "tools/call", Params: params("ask", "who"), Emit: func(m *protocol.Message) error {
		return l.Respond(t.Context(), m.ID, &protocol.Message{Kind: protocol.Response, Result: []byte(`{"action":"decline"}`)}, Forward{})
	}})
	if err != nil || !strings.HasPrefix(text(t, m), "decline") {
		t.Errorf("%v, %v", m, err)
	}
}

func TestStdioSharing(t *testing.T) {
	for _, perSession := range []bool{false, true} {
		t.Run(strconv.FormatBool(perSession), func(t *testing.T) {
			tg := stdio(t, "script", func(c *TargetConfig) { c.Command.PerSession = perSession })
			a1, a2, b := open(t, tg, client("a")), open(t, tg, client("a")), open(t, tg, client("b"))
			pids := map[string]int{}
			for _, l := range []*Leg{a1, a2, b} {
				pids[call(t, l, "pid", "")]++
			}
			want := 2
			if perSession {
				want = 3
			}
			if len(pids) != want {
				t.Errorf("pids: %v", pids)
			}
		})
	}
}

func TestStdioEnvironment(t *testing.T) {
	t.Setenv("LEAK", "1")
	l := open(t, stdio(t, "script"), client("a"))
	env := " " + call(t, l, "env", "") + " "
	if strings.Contains(env, " LEAK ") || !strings.Contains(env, " PATH ") || !strings.Contains(env, " SECRET ") {
		t.Errorf("environment: %s", env)
	}
}

func TestStdioCrashFailsThatCallOnly(t *testing.T) {
	tg := stdio(t, "script")
	l := open(t, tg, client("a"))
	first := call(t, l, "pid", "")
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("crash", "")})
	if f := fault.Of(err); f.Code != fault.UpstreamFailed {
		t.Fatalf("got %v", err)
	}
	// It is started again, after a while.
	for {
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("pid", "")})
		if err == nil {
			if text(t, m) == first {
				t.Error("the same process")
			}
			return
		}
		f := fault.Of(err)
		if f.Code != fault.UpstreamUnreachable || f.RetryAfter <= 0 {
			t.Fatalf("got %v", err)
		}
		if err := sleep(t.Context(), f.RetryAfter); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStdioAnswersOutOfOrder(t *testing.T) {
	tg := stdio(t, "script")
	l1, l2 := open(t, tg, client("a")), open(t, tg, client("a"))
	done := make(chan string, 1)
	go func() {
		m, err := l1.Call(t.Context(), &Call{Method: "tools/call", Params: params("hold", "one")})
		if err != nil {
			done <- err.Error()
			return
		}
		done <- text(t, m)
	}()
	for {
		if got := call(t, l2, "flip", "two"); got != "two" {
			t.Fatalf("got %q", got)
		}
		select {
		case got := <-done:
			if got != "one" {
				t.Errorf("got %q", got)
			}
			return
		default:
		}
	}
}

func TestStdioHostileAnswers(t *testing.T) {
	tg := stdio(t, "script", func(c *TargetConfig) { c.MaxMessage = 1 << 20 })
	l := open(t, tg, client("a"))
	if got := call(t, l, "twice", ""); got != "first" {
		t.Errorf("got %q", got)
	}
	for _, tool := range []string{"long", "garbage"} {
		_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params(tool, "")})
		if f := fault.Of(err); f.Code != fault.UpstreamFailed {
			t.Errorf("%s: %v", tool, err)
		}
	}
	if got := call(t, l, "echo", "still here"); got != "still here" {
		t.Errorf("got %q", got)
	}
	if tg.Dropped() < 2 {
		t.Errorf("%d messages dropped", tg.Dropped())
	}
}

// On a child that several legs share, a question of the child reaches the latest
// call of the only leg that has some under way, and nobody when there are two.
func TestStdioQuestionsOnSharedChild(t *testing.T) {
	tg := stdio(t, "script")
	l1, l2 := open(t, tg, client("a")), open(t, tg, client("a"))
	ask := func(l *Leg) string {
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("ask", "x"), Emit: func(m *protocol.Message) error {
			return l.Respond(t.Context(), m.ID, &protocol.Message{Kind: protocol.Response, Result: []byte(`{"action":"accept"}`)}, Forward{})
		}})
		if err != nil {
			t.Fatal(err)
		}
		return text(t, m)
	}
	if got := ask(l1); got != "accept" {
		t.Errorf("got %q", got)
	}
	for l, want := range map[*Leg]string{l1: "accept", l2: "refused"} {
		ctx, cancel := context.WithCancel(t.Context())
		held := make(chan error, 1)
		go func() {
			_, err := l.Call(ctx, &Call{Method: "tools/call", Params: params("hold", ""), Emit: func(m *protocol.Message) error {
				t.Errorf("the other call got %s", m.Raw)
				return nil
			}})
			held <- err
		}()
		d := l2.w.(*duplexWire).duplex
		wait(t, func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.calls) == 1
		})
		if got := ask(l1); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		cancel()
		<-held
	}
}

// wait waits for a condition that nothing announces.
func wait(t *testing.T, condition func() bool) {
	t.Helper()
	for !condition() {
		if err := sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal("the condition did not come true")
		}
	}
}

func TestStdioListen(t *testing.T) {
	tg := stdio(t, "script")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 10)
	var wg sync.WaitGroup
	l := open(t, tg, client("a"))
	wg.Go(func() {
		tg.Watch(ctx, client("a"), Forward{}, func() {}, func(m *protocol.Message) { got <- "watch " + m.Method })
	})
	wg.Go(func() {
		_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error { got <- "listen " + m.Method; return nil })
	})
	d := l.w.(*duplexWire).duplex
	wait(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.ears) == 2
	})
	call(t, l, "changed", "")
	seen := map[string]bool{<-got: true, <-got: true}
	if !seen["watch notifications/tools/list_changed"] || !seen["listen notifications/tools/list_changed"] {
		t.Errorf("got %v", seen)
	}
	cancel()
	wg.Wait()
}

func TestStdioStubbornChildIsKilledWithItsGroup(t *testing.T) {
	var log syncBuffer
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tg := NewTarget(TargetConfig{Transport: Stdio, Timeout: 20 * time.Second,
		Command: &Command{Path: exe, Env: []string{"MCPGW_TEST_CHILD=stubborn", "GORACE=atexit_sleep_ms=0"}}},
		Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	l, err := tg.Open(t.Context(), client("a"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(call(t, l, "pid", ""))
	if err != nil {
		t.Fatal(err)
	}
	grandchild := 0
	wait(t, func() bool {
		_, rest, ok := strings.Cut(log.String(), "grandchild ")
		if ok {
			grandchild, err = strconv.Atoi(rest[:strings.IndexByte(rest, '"')])
		}
		return ok
	})
	if err != nil {
		t.Fatal(err)
	}
	tg.Close()
	wait(t, func() bool { return gone(pid) && gone(grandchild) })
}

// gone reports whether there is no such process, or only its remains.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestStdioStderrIsBoundedAndRedacted(t *testing.T) {
	var log syncBuffer
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tg := NewTarget(TargetConfig{Transport: Stdio, Timeout: 20 * time.Second,
		Command: &Command{Path: exe, Env: []string{"MCPGW_TEST_CHILD=noisy", "SECRET=correct-horse-battery", "GORACE=atexit_sleep_ms=0"}}},
		Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if _, err := tg.Open(t.Context(), client("a"), Forward{}); err != nil {
		t.Fatal(err)
	}
	tg.Close()
	got := log.String()
	if strings.Contains(got, "correct-horse") {
		t.Error("the log holds the secret")
	}
	if n := strings.Count(got, "stderr of the target"); n == 0 || n > 2*stderrBurst {
		t.Errorf("%d lines of stderr in the log", n)
	}
	if len(got) > 2*stderrBurst*(stderrLine+200) {
		t.Errorf("the log has %d bytes", len(got))
	}
}

func TestStdioChildrenAreBounded(t *testing.T) {
	tg := stdio(t, "script", func(c *TargetConfig) { c.Command.PerSession = true })
	busy := context.Background()
	ctx, cancel := context.WithCancel(busy)
	defer cancel()
	tg.children.mu.Lock()
	tg.children.count = maxChildren - 1 // as if so many were busy
	tg.children.mu.Unlock()
	l := open(t, tg, client("a"))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = l.Call(ctx, &Call{Method: "tools/call", Params: params("hold", "")}) })
	d := l.w.(*duplexWire).duplex
	wait(t, func() bool { _, ok := d.unused(); return !ok })
	_, err := tg.Open(t.Context(), client("b"), Forward{})
	if f := fault.Of(err); f.Code != fault.Overloaded {
		t.Errorf("one child too many: %v", err)
	}
	cancel()
	wg.Wait()
	open(t, tg, client("b")) // takes the place of the one that nobody uses
	wait(t, func() bool { return !d.alive() })
}

// A child that takes longer to start than anybody waits is there for the next
// who asks.
func TestStdioSlowStart(t *testing.T) {
	for mode, want := range map[string]protocol.Era{"slow": protocol.Legacy, "slow modern": protocol.Modern} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			gate := filepath.Join(t.TempDir(), "gate")
			tg := stdio(t, mode, func(c *TargetConfig) {
				c.Timeout = 300 * time.Millisecond
				c.Command.Env = append(c.Command.Env, "GATE="+gate)
			})
			_, err := tg.Open(t.Context(), client("a"), Forward{})
			if f := fault.Of(err); f.Code != fault.UpstreamTimeout {
				t.Errorf("got %v", err)
			}
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for {
				d, err := tg.Discover(t.Context(), client("a"), Forward{})
				if err == nil {
					if d.Era != want {
						t.Errorf("era is %v", d.Era)
					}
					break
				}
				if f := fault.Of(err); f.Code != fault.UpstreamTimeout {
					t.Fatalf("got %v", err)
				}
			}
			tg.children.mu.Lock()
			defer tg.children.mu.Unlock()
			if n := tg.children.count; n != 1 {
				t.Errorf("%d children", n)
			}
		})
	}
}
