package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/telemetry"
	"github.com/mcpgw/mcpgw/upstream"
)

const (
	jsonType   = "application/json"
	streamType = "text/event-stream"
	bothTypes  = jsonType + ", " + streamType
	// maxErrorBody bounds what is read of an answer that is not a success.
	maxErrorBody = 64 << 10
	// tailWait is how long a stream may go on after the response, so that its
	// connection can be used again.
	tailWait = 250 * time.Millisecond
)

// Values of headers that are always the same. Nobody changes them: a RoundTripper
// must not, and the map that holds them is made anew for each request.
var (
	identity    = []string{"identity"}
	jsonContent = []string{jsonType}
	acceptBoth  = []string{bothTypes}
)

// ownHeaders are set by the leg, by the transport, or by nobody: they are never
// taken from the client.
var ownHeaders = []string{
	"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length",
	"Content-Type", "Cookie", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
	protocol.HeaderSessionID, protocol.HeaderProtocolVersion, protocol.HeaderMethod, protocol.HeaderName,
	protocol.HeaderLastEventID,
}

// do sends one HTTP request. body may be nil. Errors are those of the
// RoundTripper; the caller closes the body of the response.
func (t *Target) do(ctx context.Context, method string, pin *upstream.Pin, body []byte, f Forward, header http.Header) (*http.Response, error) {
	return t.doURL(ctx, method, pin, body, f, header, &http.Request{URL: t.url})
}

// doURL is do for the URL of req.
func (t *Target) doURL(ctx context.Context, method string, pin *upstream.Pin, body []byte, f Forward, header http.Header, req *http.Request) (*http.Response, error) {
	for k, v := range f.Header {
		if _, set := header[k]; set || slices.Contains(ownHeaders, http.CanonicalHeaderKey(k)) {
			continue
		}
		header[k] = v
	}
	telemetry.Propagate(ctx, header)
	// No compression is asked for: what a target sends is bounded as it comes.
	header["Accept-Encoding"] = identity
	switch {
	case t.cfg.Passthrough:
		if !f.Authorization.IsZero() {
			header["Authorization"] = []string{f.Authorization.Reveal()}
		}
	case t.cfg.AuthHeader != "":
		header.Set(t.cfg.AuthHeader, t.cfg.AuthValue.Reveal())
	}
	req.Method, req.Header, req.Host = method, header, req.URL.Host
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	if body != nil {
		header["Content-Type"] = jsonContent
		req.ContentLength = int64(len(body))
		req.Body = newMemory(body)
		// With GetBody the transport may send again what it could not send at all.
		// It must not be talked into more than that, which an idempotency key does.
		if header["Idempotency-Key"] == nil && header["X-Idempotency-Key"] == nil {
			req.GetBody = func() (io.ReadCloser, error) { return newMemory(body), nil }
		}
	}
	if pin != nil {
		ctx = upstream.WithPin(ctx, pin)
	}
	return t.cfg.RoundTripper.RoundTrip(req.WithContext(ctx))
}

// A memory is the body of a request that is in memory.
type memory struct{ bytes.Reader }

func newMemory(body []byte) *memory {
	m := new(memory)
	m.Reset(body)
	return m
}

// Close implements [io.Closer].
func (m *memory) Close() error { return nil }

// mediaType returns the media type of resp, in lower case.
func mediaType(resp *http.Response) string {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// ended closes the body of resp after a little of it was read, so that its
// connection can be used again.
func ended(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // it is thrown away either way
	_ = resp.Body.Close()
}

// check refuses a response that could not be read as it is.
func check(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return errors.New("the target compressed its answer, which it was not asked to do")
	}
	return nil
}

// readBody reads the body of resp, at most max bytes.
func readBody(resp *http.Response, max int) ([]byte, error) {
	if resp.ContentLength > int64(max) {
		return nil, tooLarge(max)
	}
	if resp.ContentLength > 0 {
		body := make([]byte, resp.ContentLength)
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		return body, nil
	}
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, int64(max)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case n > int64(max):
		return nil, tooLarge(max)
	}
	return buf.Bytes(), nil
}

func tooLarge(max int) error {
	return fmt.Errorf("the answer is larger than %d bytes", max)
}

// rejection returns the JSON-RPC error in a response that is not a success, or
// a *statusError if there is none. It closes the body.
func (t *Target) rejection(resp *http.Response, id protocol.ID) (*protocol.Message, error) {
	defer ended(resp)
	if mediaType(resp) == jsonType && check(resp) == nil {
		body, err := readBody(resp, maxErrorBody)
		if err == nil {
			m, err := protocol.Parse(body, t.limits())
			if err == nil && m.Kind == protocol.Response && m.Error != nil && (m.ID == id || m.ID == "") {
				return m, nil
			}
		}
	}
	return nil, &statusError{status: resp.StatusCode}
}

// A cursor is where a stream of events was left.
type cursor struct {
	id    string
	retry time.Duration // 0 when the target named none
	any   bool          // an event came since the last connection
}

// events reads the events of body and hands each message in them to handle,
// until handle returns an error, which events returns, or the stream ends
// (errStreamEnd). What cannot be read as a message goes to broken.
func (t *Target) events(body io.Reader, at *cursor, handle func(*protocol.Message) error, broken func(error) error) error {
	return t.eventsOf(events.NewReader(body, t.cfg.MaxMessage), at, handle, broken)
}

// eventsOf is events for a reader. It returns [syscall.EAGAIN] when that does, and goes on when it is called again.
func (t *Target) eventsOf(r *events.Reader, at *cursor, handle func(*protocol.Message) error, broken func(error) error) error {
	for {
		ev, err := r.Next()
		switch {
		case err == syscall.EAGAIN:
			return err
		case errors.Is(err, events.ErrTooLarge):
			return fmt.Errorf("an event is larger than %d bytes", t.cfg.MaxMessage)
		case err != nil:
			return fmt.Errorf("%w: %w", errStreamEnd, err)
		}
		at.any = true
		if ev.ID != "" {
			at.id = ev.ID
		}
		if ev.Retry >= 0 {
			at.retry = min(time.Duration(ev.Retry)*time.Millisecond, maxBackoff)
		}
		if len(ev.Data) == 0 || (ev.Type != "" && ev.Type != "message") {
			continue
		}
		messages, err := t.parse(bytes.Clone(ev.Data))
		if err != nil {
			if err := broken(fmt.Errorf("an event holds no message: %w", err)); err != nil {
				return err
			}
			continue
		}
		for _, m := range messages {
			if err := handle(m); err != nil {
				return err
			}
		}
	}
}

// errAnswered ends the reading of a stream that has given its response.
var errAnswered = errors.New("answered")

// stream reads the events of resp until the response of r. It closes the body.
func (t *Target) stream(ctx context.Context, resp *http.Response, r *request, w wire, at *cursor) (*protocol.Message, error) {
	var answer *protocol.Message
	err := t.events(resp.Body, at, func(m *protocol.Message) error {
		if m.Kind == protocol.Response && m.ID == r.id {
			answer = m
			return errAnswered
		}
		return r.deliver(t, m, w, func(reply []byte) { t.reply(ctx, w, reply, r.f) })
	}, func(err error) error { return err })
	if answer == nil {
		_ = resp.Body.Close()
		return nil, err
	}
	t.tail(resp)
	return answer, nil
}

// tail lets a stream that gave its response end by itself, for a moment: its
// connection can then be used again. What still comes is dropped.
func (t *Target) tail(resp *http.Response) {
	started := t.spawn(func() {
		stop := time.AfterFunc(tailWait, func() { _ = resp.Body.Close() })
		n, _ := io.CopyN(io.Discard, resp.Body, 64<<10) // only its end is of interest
		stop.Stop()
		if n > 2 {
			t.dropped.Add(1)
		}
		_ = resp.Body.Close()
	})
	if !started {
		_ = resp.Body.Close()
	}
}

// reply answers a request of the target by the gateway itself.
func (t *Target) reply(ctx context.Context, w wire, msg []byte, f Forward) {
	if err := w.send(ctx, "", msg, f); err != nil && ctx.Err() == nil {
		t.log.Debug("answering a request of the target", "error", err)
	}
}

// single reads the one message that a JSON body holds, the response of r. It
// closes the body.
func (t *Target) single(resp *http.Response, r *request) (*protocol.Message, error) {
	body, err := readBody(resp, t.cfg.MaxMessage)
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	_ = resp.Body.Close()
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) > 0 && first[0] == '{' { // no batch
		m, err := protocol.Parse(body, t.limits())
		switch {
		case err != nil:
			return nil, fmt.Errorf("the answer is no message: %w", err)
		case m.Kind == protocol.Response && m.ID == r.id:
			return m, nil
		}
	}
	messages, err := t.parse(body)
	if err != nil {
		return nil, fmt.Errorf("the answer is no message: %w", err)
	}
	for _, m := range messages {
		if m.Kind == protocol.Response && m.ID == r.id {
			return m, nil
		}
		// An error without an id can only be about the one request of this
		// exchange.
		if m.Kind == protocol.Response && m.Error != nil && m.ID == "" && len(messages) == 1 {
			return m, nil
		}
		t.drop("not the answer to the request", m)
	}
	return nil, errors.New("the answer is to another request")
}

// answer reads the response of r from a successful resp, and closes its body.
func (t *Target) answer(ctx context.Context, resp *http.Response, r *request, w wire, at *cursor) (*protocol.Message, error) {
	if err := check(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	switch media := mediaType(resp); {
	case resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNoContent:
		ended(resp)
		return nil, errors.New("the target accepted a request without answering it")
	case media == jsonType:
		return t.single(resp, r)
	case media == streamType:
		return t.stream(ctx, resp, r, w, at)
	default:
		ended(resp)
		return nil, errors.New("the answer is neither JSON nor an event stream")
	}
}

// success reports whether status is a 2xx.
func success(status int) bool { return status >= 200 && status < 300 }
