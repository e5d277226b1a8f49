package protocol

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bounds what Parse accepts. A zero field means its default.
type Limits struct {
	Bytes   int // of the whole message; 4 MiB
	Depth   int // of nested objects and arrays, the message itself being 1; 128
	Members int // of one object; 10,000
	String  int // bytes of one string or key, as written between its quotes; 2 MiB
	Number  int // digits of one number; 64
	ID      int // bytes of an id, as written (a string's between its quotes); 256
}

// withDefaults returns l with its zero fields filled in.
func (l Limits) withDefaults() Limits {
	fill := func(limit *int, value int) {
		if *limit == 0 {
			*limit = value
		}
	}
	fill(&l.Bytes, 4<<20)
	fill(&l.Depth, 128)
	fill(&l.Members, 10_000)
	fill(&l.String, 2<<20)
	fill(&l.Number, 64)
	fill(&l.ID, 256)
	return l
}

// Parse checks b strictly and returns the message in it, which aliases b. It
// refuses duplicate keys however they are spelled, invalid UTF-8, lone
// surrogates, trailing data, anything over the limits, ids that are neither
// strings nor integers, and keys of the envelope, params, params._meta and
// params.ref that equal a known key only after case folding or trimming of NUL
// and space. Unknown keys of the envelope are allowed and stay in Raw.
//
// Its errors are *[Error] with CodeParse (not JSON) or CodeInvalidRequest (JSON,
// but not a message), fit for the client. The ID of a broken message, where it
// could still be read, is in the returned Message, which is never nil.
func Parse(b []byte, limits Limits) (*Message, error) {
	m := &Message{Raw: b}
	c := newChecker(b, limits.withDefaults())
	defer c.free()
	if err := c.message(m); err != nil {
		return &Message{ID: m.ID, Raw: b}, asError(err)
	}
	return m, nil
}

// ParseBatch splits a JSON-RPC batch (2025-03-26, Base Protocol, Batching) into
// its elements, which alias b, and reports whether b was an array at all: when
// it was not, nothing was checked. The elements are checked to be JSON within
// limits but are not parsed: Parse each. A batch of no elements or of more than
// max is refused. Errors are as those of Parse.
func ParseBatch(b []byte, limits Limits, max int) (elements [][]byte, isBatch bool, err error) {
	if i := skipSpace(b, 0); i == len(b) || b[i] != '[' {
		return nil, false, nil
	}
	c := newChecker(b, limits.withDefaults())
	defer c.free()
	if elements, err = c.batch(max); err != nil {
		return nil, true, asError(err)
	}
	return elements, true, nil
}

// asError returns err as the JSON-RPC error that tells the client of it.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return Errorf(CodeInvalidRequest, "Invalid Request: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Errorf(CodeParse, "Parse error: the message ends too early")
	}
	return Errorf(CodeParse, "Parse error: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
}

func invalid(format string, args ...any) *Error {
	return Errorf(CodeInvalidRequest, "Invalid Request: "+format, args...)
}

// A checker walks over one message, once. jsontext checks the grammar, the
// encoding and the uniqueness of keys; the checker adds limits and notes where
// the parts are.
type checker struct {
	dec     jsontext.Decoder
	buf     bytes.Buffer
	in      []byte
	limits  Limits
	scratch []byte // the unescaped form of the last key that had escapes
	// problem is the first thing that makes a well-formed message invalid. It is
	// kept until the end of the envelope, so that the id is found on the way.
	problem *Error
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// newChecker returns a checker for b from the pool.
func newChecker(b []byte, limits Limits) *checker {
	c := checkers.Get().(*checker)
	c.in, c.limits, c.problem = b, limits, nil
	c.buf = *bytes.NewBuffer(b) // which jsontext reads in place
	c.dec.Reset(&c.buf)
	return c
}

// free returns c to the pool, without what it holds of the message.
func (c *checker) free() {
	c.in, c.problem = nil, nil
	c.buf = bytes.Buffer{}
	c.dec.Reset(&c.buf)
	if cap(c.scratch) > 64<<10 {
		c.scratch = nil
	}
	checkers.Put(c)
}

// invalid notes the first thing that makes the message invalid.
func (c *checker) invalid(format string, args ...any) {
	if c.problem == nil {
		c.problem = invalid(format, args...)
	}
}

// message reads the one message that the input is.
func (c *checker) message(m *Message) error {
	if err := c.size(); err != nil {
		return err
	}
	if kind := c.dec.PeekKind(); kind != '{' && kind != jsontext.KindInvalid {
		// The value is read all the same: broken JSON is a parse error.
		if _, err := c.value(1); err != nil {
			return err
		}
		if err := c.end(); err != nil {
			return err
		}
		return invalid("the message must be an object")
	}
	var e envelope
	if err := c.envelope(m, &e); err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	e.check(c, m)
	if c.problem != nil {
		return c.problem
	}
	return nil
}

func (c *checker) size() error {
	if len(c.in) > c.limits.Bytes {
		return invalid("the message is larger than %d bytes", c.limits.Bytes)
	}
	return nil
}

// end checks that nothing but white space follows.
func (c *checker) end() error {
	_, err := c.dec.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err == nil:
		return Errorf(CodeParse, "Parse error: data after the message")
	default:
		return err
	}
}

// An envelope notes which members a message has.
type envelope struct {
	jsonrpc, id, null, method, result bool
}

// envelope reads the top-level object into m.
func (c *checker) envelope(m *Message, e *envelope) error {
	_, err := c.object(1, envelopeScope, func(key []byte) error {
		switch string(key) {
		case "jsonrpc":
			v, err := c.value(2)
			if err != nil {
				return err
			}
			e.jsonrpc = true
			if s, ok := text(v); !ok || string(s) != "2.0" {
				c.invalid(`jsonrpc must be "2.0"`)
			}
		case "id":
			v, err := c.value(2)
			if err != nil {
				return err
			}
			e.id, e.null = true, v[0] == 'n'
			if !e.null {
				id := c.id(v)
				if c.delimited() {
					m.ID = id
				}
			}
		case "method":
			v, err := c.value(2)
			if err != nil {
				return err
			}
			e.method = true
			s, ok := text(v)
			if !ok || len(s) == 0 {
				c.invalid("method must be a string that is not empty")
			}
			m.Method = methodName(s)
		case "params":
			return c.params(m)
		case "result":
			v, err := c.value(2)
			if err != nil {
				return err
			}
			e.result = true
			if v[0] != '{' {
				c.invalid("result must be an object")
			}
			m.Result = v
		case "error":
			return c.error(m)
		default:
			_, err := c.value(2)
			return err
		}
		return nil
	})
	return err
}

// check decides what kind of message the members make.
func (e *envelope) check(c *checker, m *Message) {
	if !e.jsonrpc {
		c.invalid(`jsonrpc must be "2.0"`)
	}
	failed := m.Error != nil
	switch {
	case e.method && (e.result || failed), e.result && failed:
		c.invalid("a message has exactly one of method, result and error")
	case e.method && e.null:
		c.invalid("id must be a string or an integer")
	case e.method && e.id:
		m.Kind = Request
	case e.method:
		m.Kind = Notification
	case (e.result || failed) && m.Params != nil:
		c.invalid("a response has no params")
	case e.result && (!e.id || e.null):
		c.invalid("a result must have the id of its request")
	case e.result, failed: // the id of an error may be null or absent
		m.Kind = Response
	default:
		c.invalid("a message has exactly one of method, result and error")
	}
}

// delimited reports whether the value that was just read ends where the next token begins: of 01, which is
// no JSON, it is not 0 that was meant.
func (c *checker) delimited() bool {
	i := skipSpace(c.in, int(c.dec.InputOffset()))
	return i < len(c.in) && (c.in[i] == ',' || c.in[i] == '}')
}

// id checks the raw value of an id that is not null.
func (c *checker) id(v []byte) ID {
	switch {
	case v[0] == '"' && len(v)-2 > c.limits.ID, v[0] != '"' && len(v) > c.limits.ID:
		c.invalid("id is longer than %d bytes", c.limits.ID)
	case v[0] == '"', integer(v):
		return ID(v)
	default:
		c.invalid("id must be a string or an integer")
	}
	return ""
}

// integer reports whether the raw value v is a number without fraction and
// exponent.
func integer(v []byte) bool {
	return (v[0] == '-' || v[0] >= '0' && v[0] <= '9') && !bytes.ContainsAny(v, ".eE")
}

// params reads params, and the objects in it that have keys of MCP.
func (c *checker) params(m *Message) error {
	if c.dec.PeekKind() != '{' {
		v, err := c.value(2)
		if err == nil && v[0] != 'n' {
			c.invalid("params must be an object")
		}
		return err
	}
	raw, err := c.object(2, paramsScope, func(key []byte) error {
		var inner scope
		switch string(key) {
		case "_meta":
			inner = metaScope
		case "ref":
			inner = refScope
		case "argument":
			inner = argumentScope
		case "notifications":
			inner = listenScope
		}
		if inner == nil || c.dec.PeekKind() != '{' {
			_, err := c.value(3)
			return err
		}
		_, err := c.object(3, inner, func([]byte) error {
			_, err := c.value(4)
			return err
		})
		return err
	})
	m.Params = raw
	return err
}

// error reads the error object of a response.
func (c *checker) error(m *Message) error {
	m.Error = &Error{}
	if c.dec.PeekKind() != '{' {
		c.invalid("error must be an object")
		_, err := c.value(2)
		return err
	}
	coded := false
	raw, err := c.object(2, errorScope, func(key []byte) error {
		v, err := c.value(3)
		if err != nil {
			return err
		}
		switch string(key) {
		case "code":
			n, err := strconv.ParseInt(string(v), 10, 32)
			m.Error.Code, coded = Code(n), err == nil
		case "message":
			s, ok := text(v)
			if !ok {
				c.invalid("error.message must be a string")
			}
			m.Error.Message = string(s)
		case "data":
			m.Error.Data = v
		}
		return nil
	})
	if err == nil && !coded {
		c.invalid("error.code must be an integer")
	}
	m.Error.Raw = raw
	return err
}

// batch reads the array that the input is.
func (c *checker) batch(max int) (elements [][]byte, err error) {
	if err := c.size(); err != nil {
		return nil, err
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return nil, err
	}
	for c.dec.PeekKind() != ']' {
		if len(elements) == max {
			return nil, invalid("a batch has at most %d messages", max)
		}
		v, err := c.value(1) // an element may be as deep as a message of its own
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return nil, err
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	if len(elements) == 0 {
		return nil, invalid("the batch is empty")
	}
	return elements, nil
}

// object reads an object at depth, which the decoder is about to read. For each
// member it reads the key and calls member, which must read the value; key is
// valid during the call only. It returns the object as it was written.
func (c *checker) object(depth int, s scope, member func(key []byte) error) ([]byte, error) {
	start, err := c.open(depth)
	if err != nil {
		return nil, err
	}
	for n := 1; c.dec.PeekKind() != '}'; n++ {
		if n > c.limits.Members {
			return nil, invalid("an object has more than %d members", c.limits.Members)
		}
		key, err := c.key()
		if err != nil {
			return nil, err
		}
		if s != nil {
			if known := s.smuggled(key); known != "" {
				c.invalid("key %q is too close to %q", key, known)
			}
		}
		if err := member(key); err != nil {
			return nil, err
		}
	}
	return c.close(start)
}

// array reads an array at depth, which the decoder is about to read.
func (c *checker) array(depth int) ([]byte, error) {
	start, err := c.open(depth)
	if err != nil {
		return nil, err
	}
	for c.dec.PeekKind() != ']' {
		if _, err := c.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return c.close(start)
}

// open reads the start of an object or array and returns its offset.
func (c *checker) open(depth int) (start int64, err error) {
	if depth > c.limits.Depth {
		return 0, invalid("objects and arrays are nested deeper than %d", c.limits.Depth)
	}
	_, err = c.dec.ReadToken()
	return c.dec.InputOffset() - 1, err
}

// close reads the end of the object or array that began at start.
func (c *checker) close(start int64) ([]byte, error) {
	if _, err := c.dec.ReadToken(); err != nil {
		return nil, err
	}
	end := c.dec.InputOffset()
	return c.in[start:end:end], nil
}

// key reads the key of a member and returns it decoded.
func (c *checker) key() ([]byte, error) {
	v, err := c.scalar()
	if err != nil {
		return nil, err
	}
	if v[0] != '"' { // jsontext refuses it, but does not promise to
		return nil, Errorf(CodeParse, "Parse error: a key must be a string")
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	c.scratch, err = jsontext.AppendUnquote(c.scratch[:0], v)
	return c.scratch, err
}

// value reads a value of any kind, which is at depth if it is an object or
// array, and returns it as it was written.
func (c *checker) value(depth int) ([]byte, error) {
	switch c.dec.PeekKind() {
	case '{':
		return c.object(depth, nil, func([]byte) error {
			_, err := c.value(depth + 1)
			return err
		})
	case '[':
		return c.array(depth)
	default:
		return c.scalar()
	}
}

// scalar reads a string, number, boolean or null.
func (c *checker) scalar() ([]byte, error) {
	v, err := c.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	switch {
	case v[0] == '"' && len(v)-2 > c.limits.String:
		return nil, invalid("a string is longer than %d bytes", c.limits.String)
	case len(v) > c.limits.Number && (v[0] == '-' || v[0] >= '0' && v[0] <= '9') && digits(v) > c.limits.Number:
		return nil, invalid("a number has more than %d digits", c.limits.Number)
	}
	end := c.dec.InputOffset()
	return c.in[end-int64(len(v)) : end : end], nil
}

// digits counts the digits of a raw number, its exponent's included.
func digits(v []byte) (n int) {
	for _, b := range v {
		if b >= '0' && b <= '9' {
			n++
		}
	}
	return n
}

// text returns the decoded bytes of a raw JSON string; ok is false for other
// values.
func text(v []byte) (s []byte, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], true
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return s, err == nil
}

// methodName returns s as a string, without allocating for the methods that
// are called often.
func methodName(s []byte) string {
	switch string(s) {
	case "tools/call":
		return "tools/call"
	case "tools/list":
		return "tools/list"
	case "prompts/get":
		return "prompts/get"
	case "resources/read":
		return "resources/read"
	case "ping":
		return "ping"
	case "notifications/progress":
		return "notifications/progress"
	default:
		return string(s)
	}
}
