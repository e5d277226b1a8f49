package dialect

import "strconv"

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

// WriterOptions say what has to be known to write an answer.
type WriterOptions struct {
	Usage  bool   // the client of a stream asked for the usage
	Origin string // whose the signatures in the answer are
	Base64 bool   // the client of embeddings wants them in base64
	// Lost is told what of the answer the client's dialect has no place for. It may be nil.
	Lost func(path string)
}

// Lose notes that what stands at path in the provider's answer does not reach the client.
// "" is no place.
func (o *WriterOptions) Lose(path string) {
	if o.Lost != nil && path != "" {
		o.Lost(path)
	}
}

// LoseChoice notes that an alternative does not reach the client, whose dialect has one.
func (o *WriterOptions) LoseChoice(i int) { o.Lose("choices[" + strconv.Itoa(i) + "]") }

// LoseQuote notes that what a citation quotes does not reach the client.
func (o *WriterOptions) LoseQuote(c *Citation) {
	if c.Quote != "" {
		o.Lose(c.Path + ".cited_text")
	}
}

// LoseBeside notes that what a text has beside its words does not reach the client: its
// signature and the log probabilities of its tokens.
func (o *WriterOptions) LoseBeside(p *Part) {
	o.Lose(p.SignedAt)
	o.Lose(p.LogAt)
}
