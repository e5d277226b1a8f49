package extproc

import (
	"context"
	"errors"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// An exchange is one request and its answer on their way through a processor. Its two sides may be worked on at
// once, each by one goroutine at a time.
type exchange struct {
	*Processor
	call *Call
	ctx  context.Context         // of the request
	life context.Context         // of what answers it; ends with the verdict, too
	stop context.CancelCauseFunc // ends life

	mode   Mode          // changed by answers to heads only
	change Change        // of the request
	waits  bool          // the body of the request is still to be looked at
	pump   *duplexReader // reads the body of the request in the mode FullDuplex, else nil

	mu      sync.Mutex
	conn    *conn // nil until something was said
	over    bool  // nothing more is said
	failure error // what the processor failed with
	verdict error // what ends the request: an *immediate, or a fault
	decided chan struct{}
}

// An immediate is an answer that the processor gives itself.
type immediate struct{ *extprocv3.ImmediateResponse }

// Error returns what the processor says of it.
func (i *immediate) Error() string {
	return "the external processor answered itself: " + i.GetDetails()
}

var (
	// errUnavailable says that a stream failed whose first message was not answered, and is the only one.
	errUnavailable = errors.New("the processor failed before its first answer")
	errHolding     = errors.New("the processor ended the stream before it gave back what it was sent")
	errBroken      = errors.New("the client did not send what it was to send")
	errSlow        = errors.New("the processor did not answer in time")
	errUnasked     = errors.New("the processor sent an answer that nothing was asked for")
	errOtherKind   = errors.New("the processor answered with a message of another kind than it was sent")
)

func newExchange(p *Processor, call *Call, ctx context.Context) *exchange { //nolint:revive // the context is the last of what it is made of
	x := &exchange{Processor: p, call: call, ctx: ctx, mode: p.opts.Mode, decided: make(chan struct{})}
	x.life, x.stop = context.WithCancelCause(ctx)
	return x
}

// passes reports whether nothing is left to be looked at.
func (x *exchange) passes() bool {
	return !x.waits && (x.isOver() || !x.mode.ResponseHeaders && x.mode.ResponseBody == None && !x.mode.ResponseTrailers)
}

func (x *exchange) isOver() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

// ruled returns the verdict; nil while there is none.
func (x *exchange) ruled() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.verdict
}

// finish notes that nothing more is said.
func (x *exchange) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
}

// decide ends the request with a verdict, unless it has one, which is returned.
func (x *exchange) decide(verdict error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.verdict == nil {
		x.verdict = verdict
		close(x.decided)
		x.stop(verdict)
	}
	return x.verdict
}

// fail notes that the processor failed. It returns nil if the exchange goes on without it.
func (x *exchange) fail(err error) error {
	x.mu.Lock()
	if x.over || x.verdict != nil {
		defer x.mu.Unlock()
		return x.verdict
	}
	x.failure = err
	x.over = true
	x.mu.Unlock()
	if x.opts.FailOpen {
		return nil
	}
	return x.decide(failed(err))
}

// lost ends the request, since the stream ended while the processor had what nobody else has.
func (x *exchange) lost(err error) error {
	if err == nil {
		err = errHolding
	}
	x.mu.Lock()
	x.failure, x.over = err, true
	x.mu.Unlock()
	return x.decide(failed(err))
}

func failed(err error) error {
	return fault.Wrap(fault.Internal, err, "external processing failed")
}

// connected returns the stream, opened if need be. Without an error it is nil once nothing more is said.
func (x *exchange) connected() (*conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.verdict != nil {
		return nil, x.verdict
	}
	if x.conn == nil {
		x.conn = dial(x)
	}
	return x.conn, nil
}

// ask sends a message and waits for its answer. Both answer and error are nil when the exchange goes on without one.
func (x *exchange) ask(s side, q *question) (*reply, error) {
	for n := 0; ; n++ {
		c, err := x.connected()
		if c == nil {
			return nil, err
		}
		in := &c.inboxes[s]
		in.expect()
		timer := time.AfterFunc(x.opts.Timeout, func() { c.fail(errSlow) })
		in.setTimer(timer)
		c.send(q)
		a, err := x.receive(c, in, nil)
		timer.Stop()
		if err != errUnavailable { //nolint:errorlint // it is not wrapped
			return a, err
		}
		if !x.opts.Service.Retry.Again(x.life, n, c.err) {
			return nil, x.fail(c.err)
		}
		x.hangUp(c)
	}
}

// hangUp has the next message begin another stream than c.
func (x *exchange) hangUp(c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == c {
		x.conn = nil
	}
}

// receive waits for a message of a side, as ask does, or until broken is closed.
func (x *exchange) receive(c *conn, in *inbox, broken <-chan struct{}) (*reply, error) {
	for {
		if a := in.take(); a != nil {
			return a, nil
		}
		select {
		case <-in.filled:
		case <-c.ended:
			if a := in.take(); a != nil {
				return a, nil
			}
			if in.turns() && c.unheard() {
				return nil, errUnavailable
			}
			return nil, x.without(c)
		case <-broken:
			return nil, errBroken
		case <-x.decided:
			return nil, x.ruled()
		case <-x.ctx.Done():
			return nil, x.decide(fault.Of(context.Cause(x.ctx)))
		}
	}
}

// without notes that the stream has ended.
func (x *exchange) without(c *conn) error {
	if c.err != nil {
		return x.fail(c.err)
	}
	x.finish()
	return x.ruled()
}

// end ends the stream, and tells what it came to.
func (x *exchange) end() {
	x.mu.Lock()
	c, failure, cut := x.conn, x.failure, x.verdict != nil || x.failure != nil
	x.over = true
	x.mu.Unlock()
	x.stop(nil)
	if c == nil {
		return
	}
	c.close(cut)
	if x.opts.Told != nil {
		x.opts.Told(failure)
	}
}

// override has the rest of the exchange be looked at as the processor asks for in its answer to a head.
func (x *exchange) override(m *filterv3.ProcessingMode, of side) {
	if m == nil {
		return
	}
	if of == request {
		if x.pump == nil {
			x.mode.RequestBody = bodyMode(m.GetRequestBodyMode(), x.mode.RequestBody)
		}
		overrideHeader(&x.mode.RequestTrailers, m.GetRequestTrailerMode())
		overrideHeader(&x.mode.ResponseHeaders, m.GetResponseHeaderMode())
	}
	x.mode.ResponseBody = bodyMode(m.GetResponseBodyMode(), x.mode.ResponseBody)
	overrideHeader(&x.mode.ResponseTrailers, m.GetResponseTrailerMode())
}

// bodyMode returns the mode that the processor asks for, or that which there is if it is none of those.
func bodyMode(m filterv3.ProcessingMode_BodySendMode, is BodyMode) BodyMode {
	if m < 0 || m > filterv3.ProcessingMode_BodySendMode(FullDuplex) {
		return is
	}
	return BodyMode(m)
}

func overrideHeader(b *bool, m filterv3.ProcessingMode_HeaderSendMode) {
	if m != filterv3.ProcessingMode_DEFAULT {
		*b = m == filterv3.ProcessingMode_SEND
	}
}

// first completes the first message of a stream.
func (x *exchange) first(q *question) {
	q.ProtocolConfig = &extprocv3.ProtocolConfiguration{
		RequestBodyMode:  filterv3.ProcessingMode_BodySendMode(x.opts.Mode.RequestBody),
		ResponseBodyMode: filterv3.ProcessingMode_BodySendMode(x.opts.Mode.ResponseBody),
	}
	if len(x.call.Metadata) == 0 {
		return
	}
	q.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	for namespace, object := range x.call.Metadata {
		s := new(structpb.Struct)
		if s.UnmarshalJSON(object) == nil { // else it is none
			q.MetadataContext.FilterMetadata[namespace] = s
		}
	}
}
