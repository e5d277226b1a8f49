package lifetime

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errEnd = errors.New("the end")

func TestLifetime(t *testing.T) {
	type key struct{}
	for name, parent := range map[string]func(context.Context) (context.Context, func(error)){
		"package context": func(ctx context.Context) (context.Context, func(error)) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func(err error) { cancel(err) }
		},
		"lifetime": func(ctx context.Context) (context.Context, func(error)) {
			l := new(Lifetime)
			l.Begin(ctx)
			return l, l.End
		},
		"values over a lifetime": func(ctx context.Context) (context.Context, func(error)) {
			l := new(Lifetime)
			l.Begin(ctx)
			return context.WithValue(l, key{}, "outer"), l.End
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := parent(context.WithValue(t.Context(), key{}, "inner"))
				var l Lifetime
				l.Begin(ctx)
				for i := range slots {
					if WithValue(WithValue(&l, i, 0), i, i) != context.Context(&l) {
						t.Errorf("value %d is not in the lifetime", i)
					}
				}
				full := WithValue(&l, "more", 1)
				if full == context.Context(&l) || full.Value("more") != 1 || full.Value(0) != 0 || full.Value(2) != 2 || l.Value("more") != nil || l.Value(key{}) == nil {
					t.Error("values are not as they were set")
				}
				var apart Lifetime
				timed, stop := context.WithTimeout(&l, time.Hour)
				defer stop()
				apart.BeginApart(timed)
				if _, ok := apart.Deadline(); ok || apart.Value(0) != 0 {
					t.Error("a lifetime apart has the values of its parent, and no deadline")
				}
				defer func() {
					if apart.Err() != nil {
						t.Error("a lifetime apart has ended with its parent")
					}
				}()
				var joined Lifetime
				var h Hook
				joined.Begin(context.Background())
				joined.EndWith(&h, &l)
				below, cancel := context.WithCancel(&l)
				defer cancel()
				var ran, stopped Hook
				calls := 0
				l.Hook(&ran, func() { calls++ })
				l.Hook(&stopped, func() { t.Error("a stopped hook ran") })
				if !stopped.Stop() || stopped.Stop() {
					t.Error("a hook can be stopped once")
				}
				if l.Err() != nil || below.Err() != nil {
					t.Fatal("it has ended")
				}
				end(errEnd)
				synctest.Wait()
				<-l.Done()
				<-below.Done()
				<-joined.Done()
				if !errors.Is(l.Err(), errEnd) || !errors.Is(context.Cause(&l), errEnd) || !errors.Is(context.Cause(below), errEnd) {
					t.Errorf("ended with %v, %v, below with %v", l.Err(), context.Cause(&l), context.Cause(below))
				}
				if ran.Stop() || calls != 1 {
					t.Errorf("the hook ran %d times", calls)
				}
				l.End(errors.New("too late"))
				l.Hook(&ran, func() { calls++ })
				synctest.Wait()
				if !errors.Is(l.Err(), errEnd) || calls != 2 {
					t.Errorf("after the end: %v, %d calls", l.Err(), calls)
				}
			})
		})
	}
}

// The parent forgets a lifetime that has ended.
func TestLifetimeEnds(t *testing.T) {
	var parent Lifetime
	parent.Begin(t.Context())
	var children [3]Lifetime
	for i := range children {
		children[i].Begin(&parent)
	}
	children[1].End(nil)
	children[0].End(nil)
	children[2].End(nil)
	if parent.hooks != nil {
		t.Error("the parent remembers")
	}
	if !errors.Is(children[1].Err(), context.Canceled) {
		t.Error(children[1].Err())
	}
	<-children[1].Done()
}

func TestLifetimeConcurrent(t *testing.T) {
	for range 200 {
		var parent Lifetime
		parent.Begin(context.Background())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					var l Lifetime
					l.Begin(&parent)
					var h Hook
					ran := make(chan struct{})
					l.Hook(&h, func() { close(ran) })
					if !h.Stop() {
						<-ran
						<-l.Done()
					}
					l.End(nil)
				}
			})
		}
		wg.Go(func() { parent.End(errEnd) })
		wg.Wait()
	}
}

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Watchdog{After: time.Minute}
		begun := time.Now()
		var mu sync.Mutex
		barked := map[string]time.Duration{}
		note := func(name string) func() {
			return func() { mu.Lock(); barked[name] = time.Since(begun); mu.Unlock() }
		}
		var a, b, c, e Watch
		d.Start(&a, note("a"))
		time.Sleep(10 * time.Second)
		d.Start(&b, note("b"))
		d.Start(&c, note("c"))
		d.Start(&e, note("e"))
		time.Sleep(20 * time.Second)
		b.Reset()
		if !c.Stop() || c.Stop() {
			t.Error("a watch can be stopped once")
		}
		var f Watch
		d.Start(&f, note("f"))
		f.ResetTo(5 * time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		d.Start(&a, note("again"))
		time.Sleep(time.Hour)
		synctest.Wait()
		want := map[string]time.Duration{"a": time.Minute, "b": 90 * time.Second, "e": 70 * time.Second, "f": 35 * time.Second, "again": time.Hour + 90*time.Second}
		if len(barked) != len(want) {
			t.Errorf("barked %v", barked)
		}
		for name, at := range want {
			if barked[name] != at {
				t.Errorf("%s after %v, want %v", name, barked[name], at)
			}
		}
		if d.first != nil || d.last != nil || !d.armed.IsZero() {
			t.Error("the watchdog is awake for nothing")
		}
	})
}

func BenchmarkLifetime(b *testing.B) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.Run("lifetime", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s := new(struct {
				a, b Lifetime
				h    Hook
			})
			s.a.Begin(parent)
			s.b.Begin(&s.a)
			s.b.Hook(&s.h, func() {})
			s.h.Stop()
			s.b.End(nil)
			s.a.End(nil)
		}
	})
	b.Run("package context", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ctx, end := context.WithCancel(parent)
			below, cancel := context.WithCancelCause(ctx)
			stop := context.AfterFunc(below, func() {})
			stop()
			cancel(nil)
			end()
		}
	})
	b.Run("watchdog", func(b *testing.B) {
		d := &Watchdog{After: time.Minute}
		b.ReportAllocs()
		for b.Loop() {
			w := new(Watch)
			d.Start(w, func() {})
			w.Stop()
		}
	})
	b.Run("timer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			time.AfterFunc(time.Minute, func() {}).Stop()
		}
	})
}

// A function that is called late resets its Watch while that is started again, as for the next request of a
// connection: each has its call, and the race detector has nothing to say.
func TestWatchdogResetLate(t *testing.T) {
	d := Watchdog{After: time.Microsecond}
	var w Watch
	for i := range 300 {
		called, again := make(chan struct{}, 1), make(chan struct{})
		var once sync.Once
		d.Start(&w, func() {
			once.Do(func() {
				called <- struct{}{}
				for range i { // now before, now after the other
					runtime.Gosched()
				}
				w.Reset()
				close(again)
			})
		})
		<-called
		d.Start(&w, func() {})
		<-again
	}
	w.Stop()
}
