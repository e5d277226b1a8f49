package federation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// Lists that are private to callers are held once while they are equal, and in all up
// to a limit: beyond it, those that were used last are kept.
func TestShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "x")
		l := newLab(t, Config{ForwardHeaders: []string{"X-Tenant"}}, s)
		defer l.stop()
		list := func(tenant int) {
			t.Helper()
			defer synctest.Wait()
			if got := l.send("tools/list", "", "", "X-Tenant", fmt.Sprint(tenant)); !strings.Contains(got, `"s_x"`) {
				t.Fatal(got)
			}
		}
		for i := range 100 {
			list(i)
		}
		if n := len(l.hub.shelf.lists); n != 1 || s.count("tools/list") != 100 {
			t.Errorf("%d lists are held for 100 callers who see the same, after %d lists", n, s.count("tools/list"))
		}
		one := l.hub.shelf.held()

		s.set(func(s *virtual) {
			s.describe = func(h http.Header) string { return fmt.Sprintf("for %04s", h.Get("X-Tenant")) }
		})
		size := one + len("for 0000")
		l.hub.maxShelf = 11 * size
		for i := 1000; i < 1010; i++ {
			list(i)
		}
		if n := len(l.hub.shelf.lists); n != 11 {
			t.Errorf("%d lists at the limit", n)
		}
		list(1010) // the 100 callers of the first list are the oldest
		if n := len(l.hub.shelf.lists); n != 11 || l.hub.entries.Len() != 11 {
			t.Errorf("%d lists over the limit, %d entries", n, l.hub.entries.Len())
		}
		before := s.count("tools/list")
		list(1000)
		list(1010)
		if n := s.count("tools/list"); n != before {
			t.Errorf("%d lists of callers that were kept", n-before)
		}
		for _, key := range l.hub.entries.Keys() {
			l.hub.entries.Remove(key)
		}
		if n := l.hub.shelf.held(); n != 0 || len(l.hub.shelf.lists) != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}
