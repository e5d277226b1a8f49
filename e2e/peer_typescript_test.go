package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A typescript is a process of the TypeScript SDK, with any number of peers. It is
// safe for concurrent use.
type typescript struct {
	stdin io.WriteCloser
	done  chan struct{} // closed when the process has ended

	mu      sync.Mutex
	next    int
	waiting map[int]chan typescriptLine
	peers   map[string]*typescriptPeer
	// exchanges by the process's own number; of one process at a time.
	exchanges map[int]*exchange
}

// A typescriptLine is what testdata/peer.mjs writes.
type typescriptLine struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *refusal        `json:"error"`

	Peer     string `json:"peer"`
	Message  *heard `json:"message"`
	Exchange int    `json:"exchange"`
	Request  string `json:"request"`
	Text     string `json:"text"`
}

// startTypescript runs testdata/peer.mjs on a version of the SDK, v1 or v2, until the test ends.
func startTypescript(t *testing.T, version string) *typescript {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", "peer.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	// Modules are looked up from the script's folder upwards.
	dir := t.TempDir()
	if err := os.Symlink(npmDir(t), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "peer.mjs")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	ts := &typescript{
		done: make(chan struct{}), waiting: map[int]chan typescriptLine{}, peers: map[string]*typescriptPeer{}, exchanges: map[int]*exchange{},
	}
	cmd := exec.Command(node(t), file, version)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr := &testgateway.Transcript{}
	cmd.Stderr = stderr
	if ts.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ts.done)
		ts.read(stdout)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = ts.stdin.Close()
		select {
		case <-ts.done:
		case <-time.After(5 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ts.done
		}
		if t.Failed() {
			t.Logf("stderr of peer.mjs %s:\n%s", version, testgateway.Tail(stderr.String()))
		}
	})
	return ts
}

// read takes what the process writes until it ends.
func (ts *typescript) read(stdout io.Reader) {
	r := bufio.NewReaderSize(stdout, 1<<20)
	for {
		raw, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var line typescriptLine
		if err := json.Unmarshal(raw, &line); err != nil {
			panic(fmt.Sprintf("peer.mjs writes %q: %v", raw, err))
		}
		ts.mu.Lock()
		p := ts.peers[line.Peer]
		switch {
		case line.Message != nil:
			if p != nil {
				p.in.update(func() { p.in.messages = append(p.in.messages, *line.Message) })
			}
		case line.Request != "":
			if p != nil {
				ts.exchanges[line.Exchange] = p.in.begin(line.Request)
			}
		case line.Exchange != 0:
			if e := ts.exchanges[line.Exchange]; p != nil && e != nil {
				p.in.update(func() { e.body.WriteString(line.Text) })
			}
		default:
			if w := ts.waiting[line.ID]; w != nil {
				w <- line
				delete(ts.waiting, line.ID)
			}
		}
		ts.mu.Unlock()
	}
}

// run has the process run a command and waits for how it ends.
func (ts *typescript) run(ctx context.Context, command map[string]any) (json.RawMessage, error) {
	ts.mu.Lock()
	ts.next++
	id := ts.next
	w := make(chan typescriptLine, 1)
	ts.waiting[id] = w
	command["id"] = id
	raw, err := json.Marshal(command)
	if err == nil {
		_, err = ts.stdin.Write(append(raw, '\n'))
	}
	ts.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case line := <-w:
		return line.ended()
	case <-ts.done:
		return nil, fmt.Errorf("the TypeScript process ended")
	case <-ctx.Done():
	}
	if command["op"] != "request" {
		return nil, context.Cause(ctx)
	}
	// The SDK cancels, and then the request ends.
	if _, err := ts.run(context.WithoutCancel(ctx), map[string]any{"op": "cancel", "call": id}); err != nil {
		return nil, err
	}
	select {
	case line := <-w:
		return line.ended()
	case <-ts.done:
		return nil, fmt.Errorf("the TypeScript process ended")
	}
}

func (line typescriptLine) ended() (json.RawMessage, error) {
	if line.Error != nil {
		return nil, line.Error
	}
	return line.Result, nil
}

// A typescriptPeer is a peer on the TypeScript SDK.
type typescriptPeer struct {
	ts   *typescript
	in   *inbox
	name string
	self greeting
}

// dial connects a peer, whose name is unique. With bare it can be asked nothing.
func (ts *typescript) dial(ctx context.Context, name, url string, bare bool) (*typescriptPeer, error) {
	p := &typescriptPeer{ts: ts, in: newInbox(), name: name}
	ts.mu.Lock()
	ts.peers[name] = p
	ts.mu.Unlock()
	capabilities := json.RawMessage(peerCapabilities)
	if bare {
		capabilities = json.RawMessage(`{}`)
	}
	raw, err := ts.run(ctx, map[string]any{"op": "connect", "peer": name, "url": url, "capabilities": capabilities})
	if err != nil {
		return nil, fmt.Errorf("connecting the TypeScript SDK: %w", err)
	}
	return p, json.Unmarshal(raw, &p.self)
}

func (p *typescriptPeer) inbox() *inbox    { return p.in }
func (p *typescriptPeer) server() greeting { return p.self }

func (p *typescriptPeer) request(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	return p.ts.run(ctx, map[string]any{"op": "request", "peer": p.name, "method": method, "params": params})
}

func (p *typescriptPeer) rootsChanged(ctx context.Context) error {
	_, err := p.ts.run(ctx, map[string]any{"op": "rootsChanged", "peer": p.name})
	return err
}

func (p *typescriptPeer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = p.ts.run(ctx, map[string]any{"op": "close", "peer": p.name})
	p.ts.mu.Lock()
	defer p.ts.mu.Unlock()
	delete(p.ts.peers, p.name)
}
