package extproc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/mcpgw/mcpgw/telemetry"
)

// A side is that of the request or that of the answer.
type side int

const (
	request side = iota
	response
)

// A conn is the stream of one exchange. A goroutine of its own receives, and ends with the stream.
type conn struct {
	x      *exchange
	stream *stream
	gone   <-chan struct{} // closed when it is cut
	cancel context.CancelFunc

	sending sync.Mutex
	sent    int // messages
	inboxes [2]inbox

	mu    sync.Mutex
	heard bool          // something was received
	cause error         // what it was cut for
	ended chan struct{} // closed once nothing more is received
	err   error         // why; nil if the processor ended it well. Set before ended is closed.
}

// dial opens a stream. It is not of the request's context, which is gone before a processor has taken its leave.
func dial(x *exchange) *conn {
	ctx, cancel := within(telemetry.Detach(x.ctx), x.opts.Service.Timeout)
	c := &conn{x: x, gone: ctx.Done(), cancel: cancel, ended: make(chan struct{})}
	c.stream = x.open(ctx)
	for i := range c.inboxes {
		c.inboxes[i].filled, c.inboxes[i].drained = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	return c
}

// within returns a context that ends after a while; 0 is never.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// send sends a message. That it could not is told by the end of the stream.
func (c *conn) send(q *question) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.sent++; c.sent == 1 {
		c.x.first(q)
		go c.run()
	}
	_ = c.stream.Send(q) // the receiver gets to know why
}

// run receives messages until the stream ends.
func (c *conn) run() {
	var err error
	for err == nil {
		var a *reply
		if a, err = c.stream.Receive(); err == nil {
			err = c.arrived(a)
		}
	}
	c.mu.Lock()
	if c.cause != nil {
		err = c.cause
	}
	c.mu.Unlock()
	if !errors.Is(err, io.EOF) {
		c.err = err
	}
	c.cancel()
	close(c.ended)
	_ = c.stream.CloseRequest()  // it has ended
	_ = c.stream.CloseResponse() // likewise
}

// unheard reports whether the stream, which has ended, failed before there was an answer to its only message.
func (c *conn) unheard() bool {
	c.sending.Lock()
	sent := c.sent
	c.sending.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return sent == 1 && !c.heard && c.cause == nil && c.err != nil
}

// fail cuts the stream, for err.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
	}
	c.mu.Unlock()
	c.cut()
}

// cut ends the stream at once. net/http learns that its context has ended once the sending has, too.
func (c *conn) cut() {
	c.cancel()
	_ = c.stream.CloseRequest() // then it has ended
}

// close ends the stream: at once, or once the processor has heard that there is nothing more. Then it has a moment to end it
// itself.
func (c *conn) close(cut bool) {
	for i := range c.inboxes {
		c.inboxes[i].close()
	}
	if cut || !c.sending.TryLock() { // somebody is still at it
		c.cut()
		return
	}
	defer c.sending.Unlock()
	if c.sent == 0 {
		c.cancel()
		return
	}
	_ = c.stream.CloseRequest() // then it has ended
	time.AfterFunc(farewell, c.cancel)
}

// arrived takes a message to whom it is for.
func (c *conn) arrived(a *reply) error {
	c.mu.Lock()
	c.heard = true
	c.mu.Unlock()
	if err := c.tell(a); err != nil {
		return err
	}
	s := sideOf(a)
	if d := a.GetOverrideMessageTimeout(); d != nil {
		if t := d.AsDuration(); t >= time.Millisecond && t <= c.x.opts.MaxTimeout {
			if s >= 0 {
				c.inboxes[s].extend(t)
			} else if !c.inboxes[request].extend(t) {
				c.inboxes[response].extend(t)
			}
		}
		return nil
	}
	if i := a.GetImmediateResponse(); i != nil {
		return c.x.decide(&immediate{i})
	}
	if s < 0 {
		return errUnasked
	}
	return c.inboxes[s].put(a, c.gone)
}

// tell hands on what a message tells of the request: its members that are objects, each the namespace of its members.
func (c *conn) tell(a *reply) error {
	if c.x.call.Told == nil {
		return nil
	}
	for namespace, v := range a.GetDynamicMetadata().GetFields() {
		if object := v.GetStructValue(); object != nil {
			if err := c.x.call.Told(namespace, object.AsMap()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sideOf returns the side that a message is of, or -1.
func sideOf(a *reply) side {
	switch a.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders, *extprocv3.ProcessingResponse_RequestBody, *extprocv3.ProcessingResponse_RequestTrailers:
		return request
	case *extprocv3.ProcessingResponse_ResponseHeaders, *extprocv3.ProcessingResponse_ResponseBody, *extprocv3.ProcessingResponse_ResponseTrailers:
		return response
	default:
		return -1
	}
}

// An inbox has the messages of one side that were received and not looked at yet.
type inbox struct {
	filled, drained chan struct{} // have a token after a change

	mu       sync.Mutex
	due      bool // an answer is waited for
	flowing  bool // there are no turns: messages come when they come
	closed   bool // nobody looks at them
	queue    []*reply
	held     int // bytes in it
	timer    *time.Timer
	extended bool // the processor has asked for more time already
}

// expect says that an answer is waited for.
func (in *inbox) expect() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.due, in.extended, in.timer = true, false, nil
}

func (in *inbox) setTimer(t *time.Timer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.timer = t
}

// flow says that messages come without turns from now on.
func (in *inbox) flow() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.flowing = true
}

// turns reports whether each message is answered before the next.
func (in *inbox) turns() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.flowing
}

// extend gives the processor another time, once an answer. It reports whether one is waited for.
func (in *inbox) extend(d time.Duration) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.due || in.extended || in.timer == nil {
		return false
	}
	in.extended = true
	in.timer.Reset(d)
	return true
}

// put adds a message. Where there are no turns it waits while there is too much, until the stream is gone.
func (in *inbox) put(a *reply, gone <-chan struct{}) error {
	size := sizeOf(a)
	for {
		in.mu.Lock()
		switch {
		case in.closed:
			in.mu.Unlock()
			return nil
		case !in.flowing && !in.due:
			in.mu.Unlock()
			return errUnasked
		case len(in.queue) == 0 || in.held+size <= maxHeld:
			in.due, in.timer = false, nil
			in.queue = append(in.queue, a)
			in.held += size
			in.mu.Unlock()
			signal(in.filled)
			return nil
		}
		in.mu.Unlock()
		select {
		case <-in.drained:
		case <-gone:
			return errHolding
		}
	}
}

// take returns the next message, nil if there is none.
func (in *inbox) take() *reply {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		return nil
	}
	a := in.queue[0]
	in.queue[0] = nil
	in.queue = in.queue[1:]
	in.held -= sizeOf(a)
	signal(in.drained)
	return a
}

// close has all messages be dropped.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed, in.queue, in.held = true, nil, 0
	signal(in.drained)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sizeOf returns what a message takes, in bytes, at least.
func sizeOf(a *reply) int {
	const frame = 64
	return frame + len(common(a).GetBodyMutation().GetStreamedResponse().GetBody())
}
