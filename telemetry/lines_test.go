package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder keeps each Write it gets.
type recorder struct {
	mu   sync.Mutex
	list []string
	err  error
}

func (w *recorder) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.list = append(w.list, string(p))
	return len(p), nil
}

func (w *recorder) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// TestLines: lines are written together once the first of them has waited for
// 100 ms, and again with the next.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w recorder
		l := NewLines(&w)
		for round := 1; round <= 3; round++ {
			for i := range 3 {
				if n, err := fmt.Fprintf(l, "%d.%d\n", round, i); n != 4 || err != nil {
					t.Fatal(n, err)
				}
				time.Sleep(30 * time.Millisecond)
			}
			synctest.Wait()
			if got := w.got(); len(got) != round-1 {
				t.Fatalf("after 90 ms: %q", got)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			want := fmt.Sprintf("%d.0\n%d.1\n%d.2\n", round, round, round)
			if got := w.got(); len(got) != round || got[round-1] != want {
				t.Fatalf("after 100 ms: %q", got)
			}
		}
		time.Sleep(time.Hour)
		if got := w.got(); len(got) != 3 {
			t.Errorf("nothing was held, and yet it wrote: %q", got)
		}
	})
}

// TestLinesLimit writes just under 64 KiB, which waits, and a byte more, which
// does not.
func TestLinesLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w recorder
		l := NewLines(&w)
		line := strings.Repeat("x", maxLines/2-1) + "\n"
		_, _ = l.Write([]byte(line))
		_, _ = l.Write([]byte(line[1:]))
		synctest.Wait()
		if got := w.got(); len(got) != 0 {
			t.Fatalf("%d writes of %d bytes", len(got), maxLines-1)
		}
		_, _ = l.Write([]byte("\n"))
		if got := w.got(); len(got) != 1 || len(got[0]) != maxLines {
			t.Fatalf("%d writes of %d bytes", len(got), maxLines)
		}
	})
}

func TestLinesClose(t *testing.T) {
	var w recorder
	l := NewLines(&w)
	_, _ = l.Write([]byte("a\n"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("b\n")); err != nil {
		t.Fatal(err)
	}
	if got := w.got(); !slices.Equal(got, []string{"a\n", "b\n"}) {
		t.Errorf("%q", got)
	}
}

func TestLinesError(t *testing.T) {
	broken := errors.New("disk full")
	w := recorder{err: broken}
	l := NewLines(&w)
	if _, err := l.Write(bytes.Repeat([]byte("x"), maxLines)); err != broken {
		t.Errorf("error is %v", err)
	}
	if _, err := l.Write([]byte("a\n")); err != nil {
		t.Errorf("the error came twice: %v", err)
	}
	if err := l.Close(); err != broken {
		t.Errorf("closing: %v", err)
	}
}
