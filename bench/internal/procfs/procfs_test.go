package procfs

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a ) (b) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 5 0 1 2 3"
	if got, ok := parseStat([]byte(line)); !ok || got != (stat{ppid: 7, cpu: 1750 * time.Millisecond}) {
		t.Errorf("%+v, %t", got, ok)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 7", "42 (a) S x 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if got, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

// TestTree measures a child that burns CPU, from its parent and by itself.
func TestTree(t *testing.T) {
	c := exec.Command("sh", "-c", "i=0; while :; do i=$((i+1)); done")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	busy := Busy()
	for Tree(c.Process.Pid).CPU < 50*time.Millisecond { // the test's own timeout ends this
	}
	if s := Tree(os.Getpid()); s.CPU < 50*time.Millisecond || s.RSS < 1<<20 {
		t.Errorf("with its child this process has used %+v", s)
	}
	if got := Busy() - busy; got < 50*time.Millisecond {
		t.Errorf("the machine was busy for %v only", got)
	}
	if got := Tree(1 << 30); got != (Sample{}) {
		t.Errorf("no process has used %+v", got)
	}
}
