package session

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// An unsent error says that the target surely did not execute the request, and
// that the wire it was meant for is of no more use: another wire may be made and
// the request be sent on it.
type unsent struct {
	err error
	// era says that the target turned out to speak another era than believed.
	era bool
}

func (e *unsent) Error() string { return e.err.Error() }
func (e *unsent) Unwrap() error { return e.err }

// A refusal is the target's own JSON-RPC error in answer to a request that the
// gateway makes for itself: initialize, server/discover, subscriptions/listen.
type refusal struct{ err *protocol.Error }

func (e *refusal) Error() string { return "the target answered: " + e.err.Error() }

// A statusError is an HTTP answer that carries no JSON-RPC error.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the target answered with status %d", e.status)
}

var (
	errIdle      = errors.New("the target was silent for too long")
	errStreamEnd = errors.New("the target ended the stream before it had answered")
	errNoStream  = errors.New("the target offers no such stream")
	errForbidden = errors.New("the target sent a request, which its revision forbids")
)

// wrap adds the name of the target, for the operator.
func (t *Target) wrap(err error) error {
	return fmt.Errorf("target %s of backend %s: %w", t.cfg.Name, t.cfg.Backend, err)
}

// failed returns err as a fault about an answer that cannot be relayed.
func (t *Target) failed(err error) error {
	return fault.Wrap(fault.UpstreamFailed, t.wrap(err), "the server behind this request failed")
}

// fault returns err, which ended an exchange with the target under ctx, as a
// fault. What the gateway's own limits caused is told from what the client
// did by the cause of ctx.
func (t *Target) fault(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var f *fault.Fault
	var u *unsent
	var status *statusError
	switch {
	case errors.As(err, &u):
		return err
	case errors.Is(cause, errIdle):
		return fault.Wrap(fault.UpstreamTimeout, t.wrap(errIdle), "the server behind this request did not answer in time")
	case errors.Is(cause, errClosed):
		return t.closedFault()
	case errors.As(cause, &f):
		return f
	case errors.Is(cause, context.DeadlineExceeded):
		return fault.Wrap(fault.UpstreamTimeout, t.wrap(cause), "the server behind this request did not answer in time")
	case cause != nil:
		return fault.Of(cause)
	case errors.As(err, &f):
		return &fault.Fault{Code: f.Code, Message: f.Message, Err: t.wrap(err), RetryAfter: f.RetryAfter}
	case errors.As(err, &status):
		return t.statusFault(status)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fault.Wrap(fault.UpstreamUnreachable, t.wrap(err), "the server behind this request cannot be reached")
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fault.Wrap(fault.UpstreamTimeout, t.wrap(err), "the server behind this request did not answer in time")
	}
	return t.failed(err)
}

// statusFault returns the fault for an HTTP status that carried no JSON-RPC error.
func (t *Target) statusFault(e *statusError) error {
	switch e.status {
	case 401, 403, 407:
		return fault.Wrap(fault.UpstreamFailed, t.wrap(e), "the server behind this request refused its credentials")
	case 429, 503:
		return fault.Wrap(fault.UpstreamFailed, t.wrap(e), "the server behind this request is busy")
	default:
		return t.failed(e)
	}
}

// unreachable reports whether err says that nothing was sent.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	var f *fault.Fault
	if errors.As(err, &f) {
		return f.Code == fault.UpstreamUnreachable
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// sick reports whether err says something bad about the target rather than
// about the client or the gateway.
func sick(err error) bool {
	var f *fault.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch f.Code {
	case fault.UpstreamFailed, fault.UpstreamTimeout, fault.UpstreamUnreachable:
		return true
	default:
		return false
	}
}
