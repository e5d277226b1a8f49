package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// elapsed returns how long f takes, in the time of the bubble.
func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// One target of five that hangs costs its timeout once. From then on nobody waits for
// it: not lists, discovery or calls; its tools stay listed for a while, and it is found
// again by one request at a time.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*virtual
		for i := range 5 {
			servers = append(servers, newVirtual(fmt.Sprint("s", i), 60_000, "x"))
		}
		hung := servers[2]
		l := newLab(t, Config{}, servers...)
		defer l.stop()
		all := []string{"s0_x", "s1_x", "s2_x", "s3_x", "s4_x"}
		if names, degraded := l.tools(); cmp.Diff(all, names) != "" || degraded != nil {
			t.Fatal(names, degraded)
		}
		told, leave := l.listen()
		defer leave()
		synctest.Wait()

		hung.set(func(s *virtual) { s.silent = true; s.tools = []string{"x", "y"} })
		hung.announce() // it did say that before
		synctest.Wait()
		list := func() {
			t.Helper()
			names, degraded := l.tools()
			if diff := cmp.Diff(all, names) + cmp.Diff(map[string]string{"s2": "stale"}, degraded); diff != "" {
				t.Errorf("%v, %v", names, degraded)
			}
		}
		if took := elapsed(list); took != 5*time.Second {
			t.Errorf("the first list takes %v", took)
		}
		before := hung.count("")
		call := func() {
			t.Helper()
			if got := l.send("tools/call", "s2_x", `"name":"s2_x"`); !strings.Contains(got, "is not available") {
				t.Error(got)
			}
			if got := l.send("tools/call", "s1_x", `"name":"s1_x"`); !strings.Contains(got, `"text":"s1"`) {
				t.Error(got)
			}
			got := l.send("server/discover", "", "")
			if !strings.Contains(got, `"`+metaDegraded+`":{"s2":"stale"}`) || !strings.Contains(got, "use s2") {
				t.Error(got)
			}
		}
		for range 300 {
			if took := elapsed(func() { list(); call() }); took != 0 {
				t.Fatalf("a list and calls take %v", took)
			}
			time.Sleep(200 * time.Millisecond)
		}
		// A minute, with 5 s for each attempt and up to 10 s between two.
		if n := hung.count("") - before; n < 3 || n > 10 {
			t.Errorf("it was asked %d times in a minute", n)
		}

		hung.set(func(s *virtual) { s.silent = false })
		heard := told()
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			l.tools()
		}
		names, degraded := l.tools()
		if want := slices.Sorted(slices.Values(append([]string{"s2_y"}, all...))); cmp.Diff(want, names) != "" || degraded != nil {
			t.Errorf("afterwards %v, %v", names, degraded)
		}
		if n := told(); n != heard+1 {
			t.Errorf("told %d times that it is back", n-heard)
		}
		if got := l.send("tools/call", "s2_x", `"name":"s2_x"`); !strings.Contains(got, `"text":"s2"`) {
			t.Error(got)
		}
	})
}

// What a target that is gone for good had is listed for a bounded time, and clients
// that listen are told of its end.
func TestLastGoodEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newVirtual("a", 60_000, "x"), newVirtual("b", 60_000, "x")
		l := newLab(t, Config{}, a, b)
		defer l.stop()
		l.tools()
		told, leave := l.listen()
		defer leave()
		b.set(func(s *virtual) { s.silent = true })
		time.Sleep(staleFor)
		if names, degraded := l.tools(); cmp.Diff([]string{"a_x", "b_x"}, names) != "" || degraded["b"] != "stale" || told() != 0 {
			t.Errorf("%v, %v, told %d times", names, degraded, told())
		}
		time.Sleep(2 * time.Minute)
		if names, degraded := l.tools(); cmp.Diff([]string{"a_x"}, names) != "" || degraded["b"] != "unavailable" || told() != 1 {
			t.Errorf("%v, %v, told %d times", names, degraded, told())
		}
	})
}

// A target that lists no more but answers else is not kept from calls.
func TestStuckList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 1000, "x")
		s.changes = false
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		s.set(func(s *virtual) { s.stuck = true })
		for range 100 {
			time.Sleep(500*time.Millisecond + time.Microsecond)
			if took := elapsed(func() { l.tools() }); took > refreshWait {
				t.Errorf("a list takes %v", took)
			}
			if got := l.send("tools/call", "s_x", `"name":"s_x"`); !strings.Contains(got, `"text":"s"`) {
				t.Fatal(got)
			}
		}
		if _, degraded := l.tools(); !maps.Equal(degraded, map[string]string{"s": "stale"}) {
			t.Error(degraded)
		}
	})
}
