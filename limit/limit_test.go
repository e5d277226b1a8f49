package limit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// Windows follow the calendar in UTC, wherever the clock is.
func TestSpan(t *testing.T) {
	for _, tc := range []struct {
		window          Window
		now, start, end string
	}{
		{Second, "2026-03-01T12:34:56Z", "2026-03-01T12:34:56Z", "2026-03-01T12:34:57Z"},
		{Minute, "2026-03-01T12:34:56Z", "2026-03-01T12:34:00Z", "2026-03-01T12:35:00Z"},
		{Hour, "2026-03-01T12:34:56+05:30", "2026-03-01T07:00:00Z", "2026-03-01T08:00:00Z"},
		{Day, "2026-03-01T00:30:00+02:00", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
		{Week, "2026-03-01T12:34:56Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"}, // a Sunday
		{Week, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"}, // a Monday
		{Month, "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{Month, "2026-12-31T12:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
	} {
		start, end := tc.window.Span(at(tc.now))
		if !start.Equal(at(tc.start)) || !end.Equal(at(tc.end)) {
			t.Errorf("the %s of %s is from %s to %s", tc.window, tc.now, start, end)
		}
	}
}

func TestBucket(t *testing.T) {
	start := at("2026-03-01T12:00:00Z")
	b := NewBucket(5, 2, 10*time.Second)
	take := func(after time.Duration, times int) (taken int, left int64, wait time.Duration) {
		for range times {
			ok, l, next := b.Take(start.Add(after))
			if ok {
				taken++
			}
			left, wait = l, next.Sub(start.Add(after))
		}
		return taken, left, wait
	}
	for _, tc := range []struct {
		after       time.Duration
		times, want int
		left        int64
		wait        time.Duration
	}{
		{0, 7, 5, 0, 10 * time.Second},
		{9 * time.Second, 1, 0, 0, time.Second},
		{10 * time.Second, 1, 1, 1, 10 * time.Second},
		{15 * time.Second, 3, 1, 0, 5 * time.Second},
		{20 * time.Second, 1, 1, 1, 10 * time.Second},
		{24 * time.Hour, 9, 5, 0, 10 * time.Second},
		{1000000 * time.Hour, 9, 5, 0, 10 * time.Second},
		{0, 1, 0, 0, 1000000*time.Hour + 10*time.Second}, // a clock that is set back gives nothing
	} {
		if taken, left, wait := take(tc.after, tc.times); taken != tc.want || left != tc.left || wait != tc.wait {
			t.Errorf("after %s: %d of %d, %d left, the next in %s", tc.after, taken, tc.times, left, wait)
		}
	}
}

func TestMemory(t *testing.T) {
	m := NewMemory(Minute, MemoryOptions{})
	now := at("2026-03-01T12:34:56Z")
	take := func(key string, amount, most int64, now time.Time) Taken {
		t.Helper()
		got, err := m.Take(t.Context(), key, amount, most, now)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := take("a", 6, 10, now)
	if want := (Taken{OK: true, Key: "a", Start: at("2026-03-01T12:34:00Z"), Reset: at("2026-03-01T12:35:00Z"), Left: 4}); first != want {
		t.Errorf("%+v", first)
	}
	if got := take("a", 5, 10, now); got.OK || got.Left != 4 {
		t.Errorf("more than is left: %+v", got)
	}
	if got := take("b", 10, 10, now); !got.OK || got.Left != 0 {
		t.Errorf("another key: %+v", got)
	}
	if got := take("a", 1, 3, now); got.OK || got.Left != 0 {
		t.Errorf("a limit that was lowered: %+v", got)
	}
	if got := take("huge", 1<<62, 1<<62, now); !got.OK {
		t.Errorf("%+v", got)
	}
	if got := take("huge", 1<<62, 1<<62, now); got.OK {
		t.Errorf("an overflow: %+v", got)
	}
	for _, tc := range []struct{ delta, left int64 }{{-2, 6}, {100, 0}, {-200, 10}} {
		if err := m.Add(t.Context(), first, tc.delta); err != nil {
			t.Fatal(err)
		}
		if got := take("a", 0, 10, now); got.Left != tc.left {
			t.Errorf("after %d: %+v", tc.delta, got)
		}
	}
	later := now.Add(time.Minute)
	if got := take("a", 1, 10, later); !got.OK || got.Left != 9 {
		t.Errorf("in the next window: %+v", got)
	}
	if err := m.Add(t.Context(), first, 5); err != nil {
		t.Fatal(err)
	}
	if got := take("a", 0, 10, later); got.Left != 9 {
		t.Errorf("a correction of a window that is over: %+v", got)
	}
	if got := take("a", 0, 10, now); got.Left != 9 {
		t.Errorf("a clock that is set back by a little: %+v", got)
	}
}

// What is used at the same time is never more than the limit.
func TestMemoryTogether(t *testing.T) {
	m := NewMemory(Month, MemoryOptions{})
	now := at("2026-03-01T12:34:56Z")
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if got, _ := m.Take(t.Context(), "k", 3, 50, now); got.OK {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != 16 {
		t.Errorf("%d of 200 took 3 of 50", taken.Load())
	}
}

// At the limit the key that was used longest ago is forgotten, and that is said.
func TestMemoryIsBounded(t *testing.T) {
	forgotten := 0
	m := NewMemory(Minute, MemoryOptions{MaxKeys: 3, Forgotten: func() { forgotten++ }})
	now := at("2026-03-01T12:34:56Z")
	take := func(key string, now time.Time) bool {
		got, _ := m.Take(t.Context(), key, 1, 1, now)
		return got.OK
	}
	for i := range 3 {
		take(fmt.Sprint(i), now)
	}
	if take("0", now) || m.Len() != 3 || forgotten != 0 {
		t.Errorf("%d keys, %d forgotten", m.Len(), forgotten)
	}
	if !take("3", now) || m.Len() != 3 || forgotten != 1 {
		t.Errorf("%d keys, %d forgotten", m.Len(), forgotten)
	}
	if take("0", now) {
		t.Error("what was used lately is forgotten")
	}
	if !take("1", now) || forgotten != 2 {
		t.Errorf("%d forgotten", forgotten)
	}
	later := now.Add(time.Minute)
	if !take("4", later) || forgotten != 2 {
		t.Errorf("a window that is over counts as forgotten")
	}
}
