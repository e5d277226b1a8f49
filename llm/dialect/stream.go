package dialect

// A StreamReader reads what a provider streams, one answer each. It is not safe for
// concurrent use.
type StreamReader interface {
	// Read takes one event off the wire: its type, where the dialect has types, and
	// its data. What it returns is valid until the next call. An *[Error] is what
	// the provider says, any other that the stream is malformed.
	Read(typ string, data []byte) ([]Event, error)
	// End is told that the stream was closed. It returns io.ErrUnexpectedEOF when
	// the answer was not complete.
	End() ([]Event, error)
}

// A StreamWriter writes one answer as a client's dialect streams it. It is not safe for
// concurrent use.
type StreamWriter interface {
	// Write appends what the client reads of an event, which may be nothing.
	Write(dst []byte, e *Event) []byte
	// Error appends how a stream ends that can't go on.
	Error(dst []byte, e *Error) []byte
}

// WriterOptions say what a [StreamWriter] has to know of the request.
type WriterOptions struct {
	Usage  bool   // the client asked for the usage
	Origin string // whose the signatures in the answer are
}
