package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The processors of a pinned run.
const (
	loadCPU    = "0"
	subjectCPU = "1"
)

// pinSelf pins all threads of this process, and what they start, to the
// processor of the load.
func pinSelf() error {
	runtime.GOMAXPROCS(1)
	out, err := exec.Command("taskset", "-a", "-p", "-c", loadCPU, strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	return nil
}

// A process is a running subject or mock.
type process struct {
	cmd    *exec.Cmd
	output tail
	exited chan struct{}
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-maxTail):]...)
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-maxTail):]...)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// start starts a program, on cpu where runs are pinned, and waits until it
// listens at addr.
func (b *bench) start(ctx context.Context, cpu, addr string, argv ...string) (*process, error) {
	if b.pinned {
		argv = append([]string{"taskset", "-c", cpu}, argv...)
	}
	p := &process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.Dir = b.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its output says why it ended
		close(p.exited)
	}()
	for end := time.Now().Add(20 * time.Second); ; {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return p, conn.Close()
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("%v ended: %s", argv, &p.output)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			p.stop()
			return nil, fmt.Errorf("%v does not listen at %s: %s", argv, addr, &p.output)
		}
	}
}

// pid returns the id of the process, whose descendants are part of it.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and its descendants.
func (p *process) stop() {
	_ = syscall.Kill(-p.pid(), syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(3 * time.Second):
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
		<-p.exited
	}
}

// freeAddr returns a loopback address on which nobody listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
