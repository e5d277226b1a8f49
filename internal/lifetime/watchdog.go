package lifetime

import (
	"sync"
	"time"
)

// A Watchdog calls functions after a time that is the same for all of them: what a
// [time.Timer] for each would do, with one timer for all. The zero Watchdog with After set is
// ready for use. It is safe for concurrent use.
type Watchdog struct {
	// After is the time. It is not changed once the Watchdog is used.
	After time.Duration

	mu          sync.Mutex
	first, last *Watch // by when they are due
	timer       *time.Timer
	armed       time.Time // when the timer goes off; zero while it does not
}

// A Watch is one function that a [Watchdog] is to call. The zero Watch is ready for use.
// It must not be copied.
type Watch struct {
	dog        *Watchdog
	next, prev *Watch
	due        time.Time
	f          func()
	watched    bool
}

// Start has f called, in a goroutine of its own, after the time of the watchdog, unless
// w is stopped or started again before. A call of f that is late may reset w while it is started
// again.
func (d *Watchdog) Start(w *Watch, f func()) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.dog != d { // or it is as it was: who resets w meanwhile reads it without the lock
		w.dog = d
	}
	w.f = f
	d.watch(w, now, d.After)
}

// Reset starts the time of w, which was started before, anew.
func (w *Watch) Reset() { w.ResetTo(w.dog.After) }

// ResetTo is Reset for another time, which is rare.
func (w *Watch) ResetTo(after time.Duration) {
	d := w.dog
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch(w, now, after)
}

// After returns the time of the watchdog of w, which was started before.
func (w *Watch) After() time.Duration { return w.dog.After }

// watch puts w into the list, as a rule at the end. The caller holds the lock.
func (d *Watchdog) watch(w *Watch, now time.Time, after time.Duration) {
	d.remove(w)
	w.due, w.watched = now.Add(after), true
	at := d.last
	for at != nil && at.due.After(w.due) {
		at = at.prev
	}
	if w.prev = at; at != nil {
		at.next, w.next = w, at.next
	} else {
		d.first, w.next = w, d.first
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		d.last = w
	}
	if d.armed.IsZero() || w.due.Before(d.armed) {
		d.arm(w.due, after)
	}
}

// arm has the timer go off at due, after a time. The caller holds the lock.
func (d *Watchdog) arm(due time.Time, after time.Duration) {
	d.armed = due
	if d.timer == nil {
		d.timer = time.AfterFunc(after, d.bark)
		return
	}
	d.timer.Reset(after)
}

// Stop has w not be called. It reports false when it was called, or was not
// started.
func (w *Watch) Stop() bool {
	d := w.dog
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remove(w)
}

// remove takes w from the list. The caller holds the lock.
func (d *Watchdog) remove(w *Watch) bool {
	if !w.watched {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		d.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		d.last = w.prev
	}
	w.next, w.prev, w.watched = nil, nil, false
	return true
}

// bark calls what is due. The timer is left running while there may be something, so
// that it need not be touched for each.
func (d *Watchdog) bark() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for w := d.first; w != nil && !w.due.After(now); w = d.first {
		d.remove(w)
		go w.f()
	}
	d.armed = time.Time{}
	if d.first != nil {
		d.arm(d.first.due, d.first.due.Sub(now))
	}
}
