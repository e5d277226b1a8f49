// Package extproc shows requests and their answers to an external processor
// (envoy.service.ext_proc.v3.ExternalProcessor), which may change them, or answer itself.
//
// Its central type is [Processor], which package gateway makes of a GatewayExtension when it compiles a configuration.
// [Processor.Serve] takes one request and its answer through: a stream to the processor lasts as long as they do, and is
// opened when there is something to say. What the processor sees is its [Mode]: heads, bodies as they come or as a
// whole, and trailers. Of each side one message is under way at a time, so a slow processor slows down whoever
// sends; only in the mode FullDuplex there are no such turns.
//
// No byte gets lost: what was given to the processor is kept until it has answered, and goes on as it came when the
// processor ends the stream, or fails and the request may go on without it. Nothing here knows of routes or policies.
package extproc

import (
	"context"
	"net/http"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/mcpgw/mcpgw/extension"
)

// Limits on what one exchange takes.
const (
	// maxHeld bounds what is held of a body in each direction, in bytes: in the modes Buffered and BufferedPartial all of it, in
	// FullDuplex what was sent while nothing has come back, and what has come back and not gone on.
	maxHeld = 1 << 20
	// chunk is how much of a body one message carries at most where it is sent as it comes.
	chunk = 32 << 10
	// Of the head of a request or an answer, once it is changed.
	maxHeadBytes = 64 << 10
	maxHeadLines = 100
	maxPath      = 8 << 10

	defaultTimeout = 200 * time.Millisecond
	// farewell is how long a processor may take to end a stream on which nothing more is said.
	farewell = time.Second
)

// A BodyMode says how a processor sees a body.
type BodyMode uint8

// The modes of bodies. Their values are those of Envoy's protocol.
const (
	None            BodyMode = iota // not at all
	Streamed                        // piece by piece, as it comes
	Buffered                        // as a whole; one that is longer than what is held is refused
	BufferedPartial                 // as much as is held; the rest passes
	FullDuplex                      // as it comes; what goes on comes whenever the processor sends it
)

// A Mode says what a processor sees. With a body in the mode FullDuplex it sees its trailers, too.
type Mode struct {
	RequestHeaders, ResponseHeaders   bool
	RequestBody, ResponseBody         BodyMode
	RequestTrailers, ResponseTrailers bool
}

// Options say how a processor is asked.
type Options struct {
	Service  *extension.Service
	Mode     Mode
	FailOpen bool // whether requests go on without a processor that fails

	// Timeout bounds the time to an answer; 0 is 200 ms. In the mode FullDuplex there is none.
	Timeout time.Duration
	// MaxTimeout bounds what the processor may ask for itself, once a message; 0 is nothing.
	MaxTimeout time.Duration
	// Told is called once for each exchange in which the processor was asked, with what it failed with, if it did. nil is not
	// called.
	Told func(failure error)
}

// A Processor shows exchanges to an external processor. It is safe for concurrent use.
type Processor struct {
	opts Options
	open func(context.Context) *stream
}

// The messages of the protocol, and a stream of them.
type (
	question = extprocv3.ProcessingRequest
	reply    = extprocv3.ProcessingResponse
	stream   = extension.Stream[question, reply]
)

// New returns a processor.
func New(opts Options) *Processor {
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	return &Processor{opts: opts, open: extension.Bidi[question, reply](opts.Service, extprocv3.ExternalProcessor_Process_FullMethodName)}
}

// A Call is what is known of a request beside it.
type Call struct {
	Scheme   string            // http or https
	Hidden   []string          // headers that the processor does not see, by their canonical names
	Metadata map[string][]byte // JSON objects that the processor is told with the first message, by namespace

	// Told is called with what the processor tells of the request: the members of a namespace. It may be called at any time until the
	// processor ends its stream, also after Serve has returned. Its error is a mistake of the processor. nil is not called.
	Told func(namespace string, members map[string]any) error

	// Next answers the request, of which the processor has changed what the Change says. It is called at most once.
	Next func(w http.ResponseWriter, r *http.Request, c *Change) error
}

// A Change is what a processor has changed in the head of a request.
type Change struct {
	Headers []string // that it has set, by their canonical names
	Path    bool     // the path or the query
	Any     bool     // anything
	Reroute bool     // it asks that the route be chosen again
}

// Serve takes r through the processor, has call.Next answer it, and takes the answer through. An error says why there is no answer, or
// if one has begun, why it must be cut off.
func (p *Processor) Serve(w http.ResponseWriter, r *http.Request, call Call) error {
	x := newExchange(p, &call, r.Context())
	defer x.end()
	a := newAnswer(x, w, r)
	out, err := x.request(w, r)
	if err != nil {
		return a.conclude(err, nil)
	}
	if x.passes() {
		return call.Next(w, out, &x.change)
	}
	if out.Context() != x.life {
		out = out.WithContext(x.life)
	}
	return a.conclude(a.from(out))
}
