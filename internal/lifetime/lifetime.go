// Package lifetime is package context for what every request does: to begin, to be
// ended, and to tell others of it.
//
// A [Lifetime] is a [context.Context] that is a part of what it is the lifetime of,
// and a [Hook] is a part of what wants to hear of its end: neither allocates, while a
// context of package context makes up to five objects, and each context.AfterFunc three more. A
// [Watchdog] is in the same way what a timer for each request would be. Packages that serve many
// requests use them; elsewhere package context is clearer.
package lifetime

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Lifetime is a context that ends with its parent, or by [Lifetime.End]. Its Err is the cause
// of the end itself, so that [context.Cause] gives it, too. Begin has to be called first; what comes
// after is safe for concurrent use. It must not be copied.
type Lifetime struct {
	context.Context // the parent: values and deadline

	apart  bool                            // see BeginApart
	values [slots]struct{ key, value any } // see WithValue

	stop func() bool // of parents from package context
	hook Hook        // on other parents

	mu    sync.Mutex
	err   error
	done  atomic.Pointer[chan struct{}] // made when it is asked for
	hooks *Hook
}

var _ interface {
	context.Context
	// AfterFunc lets package context hear of the end without a goroutine.
	AfterFunc(f func()) (stop func() bool)
} = (*Lifetime)(nil)

// Begin begins the lifetime, which ends with that of parent.
func (l *Lifetime) Begin(parent context.Context) {
	l.Context = parent
	if p, ok := parent.(*Lifetime); ok {
		l.hook.child = l
		p.add(&l.hook)
		return
	}
	if parent.Done() != nil {
		l.stop = context.AfterFunc(parent, l.follow)
	}
}

// BeginApart begins a lifetime that has the values of parent, and does not end with it: as
// [context.WithoutCancel] of parent would.
func (l *Lifetime) BeginApart(parent context.Context) { l.Context, l.apart = parent, true }

// Deadline implements [context.Context].
func (l *Lifetime) Deadline() (deadline time.Time, ok bool) {
	if l.apart {
		return time.Time{}, false
	}
	return l.Context.Deadline()
}

// follow ends the lifetime as that of the parent has.
func (l *Lifetime) follow() { l.end(context.Cause(l.Context)) }

// End ends the lifetime, with cause as its Err, [context.Canceled] for nil, unless it has ended. Whoever began
// it calls it, so that the parent forgets it.
func (l *Lifetime) End(cause error) {
	if l.stop != nil {
		l.stop()
	} else if l.hook.of != nil {
		l.hook.Stop()
	}
	l.end(cause)
}

func (l *Lifetime) end(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = cause
	done := l.done.Load()
	if done == nil {
		l.done.Store(&closed)
	}
	hooks := l.hooks
	l.hooks = nil
	for h := hooks; h != nil; h = h.next {
		h.fired = true
	}
	l.mu.Unlock()
	if done != nil {
		close(*done)
	}
	for h := hooks; h != nil; {
		next := h.next // h may be used again at once
		h.run(cause)
		h = next
	}
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done implements [context.Context].
func (l *Lifetime) Done() <-chan struct{} {
	if c := l.done.Load(); c != nil {
		return *c
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.done.Load()
	if c == nil {
		made := make(chan struct{})
		c = &made
		l.done.Store(c)
	}
	return *c
}

// Err implements [context.Context]: it is the cause of the end.
func (l *Lifetime) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// slots is how many values a lifetime has room for beside those of its parent.
const slots = 3

// WithValue is [context.WithValue]. A lifetime gets the value itself while it has room,
// and is returned: it is called for those that only their own goroutine knows yet.
func WithValue(ctx context.Context, key, value any) context.Context {
	l, ok := ctx.(*Lifetime)
	if !ok {
		return context.WithValue(ctx, key, value)
	}
	for i := range l.values {
		if v := &l.values[i]; v.key == nil || v.key == key {
			v.key, v.value = key, value
			return l
		}
	}
	return context.WithValue(ctx, key, value)
}

// Value implements [context.Context].
func (l *Lifetime) Value(key any) any {
	for i := range l.values {
		if v := &l.values[i]; v.key == key && key != nil {
			return v.value
		}
	}
	return l.Context.Value(key)
}

// AfterFunc is [context.AfterFunc] for this context.
func (l *Lifetime) AfterFunc(f func()) (stop func() bool) {
	h := &Hook{}
	l.Hook(h, f)
	return h.Stop
}

// EndWith has the lifetime end when other ends, too. h, which serves for it, is stopped by whoever
// calls End.
func (l *Lifetime) EndWith(h *Hook, other *Lifetime) {
	h.child = l
	other.add(h)
}

// AfterFunc has f called as with [Lifetime.Hook] when ctx ends, whatever context it is. h serves where
// that is a lifetime. stop is as [context.AfterFunc] returns it.
func AfterFunc(ctx context.Context, h *Hook, f func()) (stop func() bool) {
	if l, ok := ctx.(*Lifetime); ok {
		l.Hook(h, f)
		return h.Stop
	}
	return context.AfterFunc(ctx, f)
}

// A Hook is a function that is called when a [Lifetime] ends. The zero Hook is ready for
// use, and once it has run or was stopped it can be used again. It must not be copied.
type Hook struct {
	of         *Lifetime
	next, prev *Hook
	fired      bool
	f          func()
	child      *Lifetime // ends in place of f
}

// Hook has f called, in a goroutine of its own, when the lifetime ends, or now if it has.
func (l *Lifetime) Hook(h *Hook, f func()) {
	h.f = f
	l.add(h)
}

func (l *Lifetime) add(h *Hook) {
	l.mu.Lock()
	h.of, h.fired, h.prev, h.next = l, false, nil, nil
	if cause := l.err; cause != nil {
		h.fired = true
		l.mu.Unlock()
		h.run(cause)
		return
	}
	if h.next = l.hooks; h.next != nil {
		h.next.prev = h
	}
	l.hooks = h
	l.mu.Unlock()
}

func (h *Hook) run(cause error) {
	if h.child != nil {
		h.child.end(cause)
		return
	}
	go h.f()
}

// Set reports whether the hook was ever set on a lifetime.
func (h *Hook) Set() bool { return h.of != nil }

// Stop has the hook not run. It reports false when it has run or is about to, or was
// never set.
func (h *Hook) Stop() bool {
	l := h.of
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.fired {
		return false
	}
	h.fired = true
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.hooks = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.next, h.prev = nil, nil
	return true
}
