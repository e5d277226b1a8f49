package federation

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Within its TTL a list is asked for once, whoever wants it, and after it once more by
// all who want it then.
func TestTTL(t *testing.T) {
	for _, tt := range []struct {
		ttl  int // milliseconds
		want time.Duration
	}{
		{0, minTTL}, {1500, 1500 * time.Millisecond}, {60_000, time.Minute}, {1 << 40, maxTTL},
	} {
		t.Run(fmt.Sprint(tt.ttl), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newVirtual("s", tt.ttl, "x")
				s.slow = time.Millisecond
				l := newLab(t, Config{}, s)
				defer l.stop()
				crowd := func() {
					done := make(chan struct{})
					for range 20 {
						go func() { l.tools(); done <- struct{}{} }()
					}
					for range 20 {
						<-done
					}
				}
				crowd()
				for range 10 {
					time.Sleep(tt.want/10 - time.Millisecond)
					crowd()
					l.send("tools/call", "s_x", `"name":"s_x"`)
				}
				if n := s.count("tools/list"); n != 1 {
					t.Errorf("%d lists within the TTL", n)
				}
				time.Sleep(20 * time.Millisecond)
				crowd()
				if n := s.count("tools/list"); n != 2 {
					t.Errorf("%d lists after it", n)
				}
			})
		})
	}
}

// Clients that listen hear of a change that no target announced, once, when the list
// has been read again after its TTL; and of nothing when it is the same.
func TestTTLTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 5000, "x")
		s.changes = false
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		told, leave := l.listen()
		defer leave()
		time.Sleep(12 * time.Second)
		if n := told(); n != 0 || s.count("tools/list") != 3 {
			t.Errorf("told %d times of nothing, %d lists", n, s.count("tools/list"))
		}
		s.set(func(s *virtual) { s.tools = append(s.tools, "y") })
		time.Sleep(4 * time.Second) // the next list is due at 15 s
		if n := told(); n != 1 {
			t.Errorf("told %d times", n)
		}
		if names, _ := l.tools(); cmp.Diff([]string{"s_x", "s_y"}, names) != "" {
			t.Error(names)
		}
		leave()
		before := s.count("tools/list")
		time.Sleep(time.Hour)
		if n := s.count("tools/list"); n > before+1 {
			t.Errorf("%d lists while nobody listens", n-before)
		}
	})
}

// A target that says 1,000 times a second that its tools changed is asked for them, and
// clients are told, a few times a second; what it had last arrives.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "v0")
		s.slow = 3 * time.Millisecond
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		told, leave := l.listen()
		defer leave()
		synctest.Wait()

		// When it begins to listen, the gateway lists once more.
		if n := s.count("tools/list"); n != 2 || told() != 0 {
			t.Fatalf("%d lists, told %d times", n, told())
		}
		// One change is told at once, and once.
		s.set(func(s *virtual) { s.tools = []string{"v1"} })
		s.announce()
		time.Sleep(100 * time.Millisecond)
		if n := told(); n != 1 || s.count("tools/list") != 3 {
			t.Fatalf("told %d times of one change, %d lists", n, s.count("tools/list"))
		}
		// Something that came and went is told, too, and once.
		s.announce()
		time.Sleep(10 * time.Second)
		if n := told(); n != 2 || s.count("tools/list") != 4 {
			t.Fatalf("told %d times, %d lists", n, s.count("tools/list"))
		}

		const seconds = 5
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := range seconds * 1000 {
				s.set(func(s *virtual) { s.tools = []string{fmt.Sprint("w", i)} })
				s.announce()
				time.Sleep(time.Millisecond)
			}
		}()
		seen := "" // what a client has that lists whenever it is told
		heard := told()
		for range (seconds + 2) * 1000 {
			time.Sleep(time.Millisecond)
			if n := told(); n > heard {
				heard = n
				names, _ := l.tools()
				seen = strings.Join(names, " ")
			}
		}
		<-ended
		if want := fmt.Sprintf("s_w%d", seconds*1000-1); seen != want {
			t.Errorf("the client ends with %s, the target with %s", seen, want)
		}
		most := relistBurst + int(seconds*time.Second/relistEvery) + 5
		if n := s.count("tools/list") - 4; n > most || n < seconds {
			t.Errorf("%d lists, at most %d", n, most)
		}
		if n := told() - 1; n > most || n < seconds {
			t.Errorf("told %d times, at most %d", n, most)
		}
	})
}

// A change whose list is slow to come is told before it is there.
func TestSlowChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "x")
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		told, leave := l.listen()
		defer leave()
		synctest.Wait()
		s.slow = 4 * time.Second
		s.set(func(s *virtual) { s.tools = []string{"y"} })
		s.announce()
		time.Sleep(time.Second)
		if n := told(); n != 1 {
			t.Errorf("told %d times within a second", n)
		}
		if names, _ := l.tools(); cmp.Diff([]string{"s_y"}, names) != "" {
			t.Errorf("who asks then gets %v", names)
		}
	})
}

// Who asks once a change was announced gets what came of it, though a list that began before it is still on its way;
// and so do all who ask then, with one list. Nobody waits for what is announced after they asked.
func TestAskedAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "v0")
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		_, leave := l.listen()
		defer leave()
		synctest.Wait()
		s.slow = time.Second
		change := func(name string) {
			s.set(func(s *virtual) { s.tools = []string{name} })
			s.announce()
			synctest.Wait()
		}
		change("v1")
		time.Sleep(100 * time.Millisecond)
		before := s.count("tools/list")
		change("v2")
		got := make(chan string, 3)
		for range cap(got) {
			go func() {
				names, degraded := l.tools()
				got <- fmt.Sprint(names, len(degraded))
			}()
		}
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		change("v3")
		for range cap(got) {
			if names := <-got; names != "[s_v2] 0" {
				t.Errorf("who asked after a change got %s", names)
			}
		}
		if names, _ := l.tools(); cmp.Diff([]string{"s_v3"}, names) != "" {
			t.Errorf("who asks at last gets %v", names)
		}
		if n := s.count("tools/list") - before; n != 2 {
			t.Errorf("%d lists for two changes", n)
		}
	})
}

// A target that fails while somebody waits for the list after the one under way keeps nobody waiting for another.
func TestAskedAfterChangeOfWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "v0")
		l := newLab(t, Config{}, s)
		defer l.stop()
		l.tools()
		_, leave := l.listen()
		defer leave()
		synctest.Wait()
		s.set(func(s *virtual) { s.stuck = true })
		s.announce()
		synctest.Wait()
		time.Sleep(3 * time.Second)
		s.announce()
		synctest.Wait()
		took := elapsed(func() {
			if names, degraded := l.tools(); cmp.Diff([]string{"s_v0"}, names) != "" || len(degraded) != 1 {
				t.Errorf("%v, %v", names, degraded)
			}
		})
		if took > 3*time.Second {
			t.Errorf("who asked waited %v for a target that fails in 5 s", took)
		}
	})
}

// Cold lists are fetched all at once, up to a limit.
func TestFetchLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*virtual
		for i := range 6 {
			s := newVirtual(fmt.Sprint("s", i), 60_000, "x")
			s.slow = time.Second
			servers = append(servers, s)
		}
		l := newLab(t, Config{}, servers...)
		defer l.stop()
		l.hub.fetches = make(chan struct{}, 2)
		var names []string
		if took := elapsed(func() { names, _ = l.tools() }); took != 3*time.Second || len(names) != 6 {
			t.Errorf("6 lists, 2 at a time, take %v: %v", took, names)
		}
	})
}
