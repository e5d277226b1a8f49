package accesslog

import (
	"log/slog"
	"sync"
	"time"
)

// A Log is one access log of a policy. It is immutable but for its sink, which is set once before it is used, and safe for
// concurrent use.
type Log struct {
	// Filter says which entries are logged; nil takes all.
	Filter Filter
	// Sink takes them.
	Sink Sink
	// header says that the filter asks for the header of the answer.
	header bool
	render renderer
}

// A renderer makes what a sink takes of an entry.
type renderer func(*Entry) any

// A Sink takes rendered entries without waiting: what there is no room for is dropped, and counted. It is safe for concurrent
// use. Close sends what waits, within a bound, and returns once nothing runs any more.
type Sink interface {
	put(entry any)
	Close()
}

// NeedsHeader reports whether entries need the header of the answer.
func (l *Log) NeedsHeader() bool { return l.header }

// WithHeader has entries come with the header of the answer, for the filter.
func (l *Log) WithHeader() { l.header = true }

// Write logs an entry, if the filter takes it.
func (l *Log) Write(e *Entry) {
	if l.Sink == nil || l.Filter != nil && !l.Filter(e) {
		return
	}
	l.Sink.put(l.render(e))
}

// Options are what sinks have in common.
type Options struct {
	// Name is that of the log in metrics and messages.
	Name string
	// Logger gets what operators should know.
	Logger *slog.Logger
	// Dropped is told how many entries were dropped. It must not block.
	Dropped func(n int)
}

// Limits of the queue before a sink.
const (
	maxQueued = 4096
	// flushAfter is how long an entry waits for others at the most.
	flushAfter = 100 * time.Millisecond
	// maxBatch is how many entries are sent at once.
	maxBatch = 512
	// closingTime is how long the entries that wait may take in the end.
	closingTime = 5 * time.Second
	// retryAfter is how long a sink that fails is left alone.
	retryAfter = time.Second
)

// A queue collects entries for the goroutine that sends them.
type queue[T any] struct {
	opts  Options
	items chan T
	stop  chan struct{}
	once  sync.Once
	ended chan struct{}
}

// newQueue returns a queue whose entries are given to send, some at a time, which says how many it could not. finish is
// called in the end. Both are called by one goroutine.
func newQueue[T any](opts Options, send func([]T) (lost int), finish func()) *queue[T] {
	q := &queue[T]{opts: opts, items: make(chan T, maxQueued), stop: make(chan struct{}), ended: make(chan struct{})}
	go q.run(send, finish)
	return q
}

func (q *queue[T]) put(entry any) {
	item, ok := entry.(T)
	if !ok {
		return
	}
	select {
	case q.items <- item:
	default:
		q.lost(1)
	}
}

func (q *queue[T]) lost(n int) {
	if n > 0 && q.opts.Dropped != nil {
		q.opts.Dropped(n)
	}
}

// Close ends the queue once what waits was sent.
func (q *queue[T]) Close() {
	q.once.Do(func() { close(q.stop) })
	<-q.ended
}

func (q *queue[T]) run(send func([]T) int, finish func()) {
	defer close(q.ended)
	defer finish()
	batch := make([]T, 0, maxBatch)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	flush := func() {
		timer.Stop()
		if len(batch) > 0 {
			q.lost(send(batch))
			clear(batch)
			batch = batch[:0]
		}
	}
	for {
		select {
		case item := <-q.items:
			if batch = append(batch, item); len(batch) == 1 {
				timer.Reset(flushAfter)
			}
			if len(batch) == maxBatch {
				flush()
			}
		case <-timer.C:
			flush()
		case <-q.stop:
			for len(q.items) > 0 {
				if batch = append(batch, <-q.items); len(batch) == maxBatch {
					flush()
				}
			}
			flush()
			return
		}
	}
}
