package session

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A modernHTTP speaks with a modern target over HTTP (2026-07-28, Streamable
// HTTP): each request stands for itself, and closing its response cancels it.
// It holds nothing of the target's.
type modernHTTP struct {
	t        *Target
	client   *Client
	revision string
	// capabilities are the target's.
	capabilities []byte
}

func (w *modernHTTP) era() protocol.Era     { return protocol.Modern }
func (w *modernHTTP) version() string       { return w.revision }
func (w *modernHTTP) usable() bool          { return true }
func (w *modernHTTP) close(context.Context) {}

// header returns the headers of one request. The names in them are made anew
// from the body, with which they must agree (2026-07-28, Streamable HTTP,
// Standard Request Headers).
func (w *modernHTTP) header(method string, params []byte) http.Header {
	h := make(http.Header, 8)
	values := [...]string{w.revision, method}
	h["Accept"] = acceptBoth
	h[protocol.HeaderProtocolVersion] = values[0:1:1]
	h[protocol.HeaderMethod] = values[1:2:2]
	name, ok := "", false
	if key := protocol.NameKey(method); key != "" {
		name, ok = protocol.GetString(params, key)
	}
	if ok {
		h[protocol.HeaderName] = []string{protocol.EncodeHeader(name)}
	}
	return h
}

func (w *modernHTTP) call(ctx context.Context, r *request) (*protocol.Message, error) {
	ctx = w.t.begin(ctx, r)
	defer r.end()
	m, err := w.exchange(ctx, r)
	if err != nil {
		return nil, w.t.fault(ctx, err)
	}
	return m, nil
}

func (w *modernHTTP) exchange(ctx context.Context, r *request) (*protocol.Message, error) {
	body := protocol.AppendRequest(make([]byte, 0, len(r.params)+96), r.id, r.method, r.params)
	resp, err := w.t.do(ctx, http.MethodPost, nil, body, r.f, w.header(r.method, r.params))
	if err != nil {
		return nil, err
	}
	var m *protocol.Message
	if success(resp.StatusCode) {
		m, err = w.t.answer(ctx, resp, r, w, new(cursor))
	} else if m, err = w.t.rejection(resp, r.id); !modernRejection(resp.StatusCode, m) {
		return nil, &unsent{err: w.t.fault(ctx, &statusError{status: resp.StatusCode}), era: true}
	}
	if m != nil && m.Error != nil && m.Error.Code == protocol.CodeUnsupportedProtocolVersion {
		return nil, &unsent{err: w.t.failed(&refusal{m.Error}), era: true}
	}
	return m, err
}

// modernRejection reports whether an HTTP status with the JSON-RPC error m is
// something that a modern target may answer. What is not tells of a target that
// has become a legacy one: it did not look at the request.
func modernRejection(status int, m *protocol.Message) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusNotAcceptable, http.StatusUnprocessableEntity:
		// JSON-RPC reserves −32000 to −32019 for servers; MCP gave them up in
		// 2026-07-28.
		return m != nil && (m.Error.Code > -32000 || m.Error.Code < -32019) && m.ID != "" ||
			m != nil && modernCode(m.Error.Code)
	default:
		return true
	}
}

// modernCode reports whether only modern targets use the code.
func modernCode(c protocol.Code) bool {
	switch c {
	case protocol.CodeHeaderMismatch, protocol.CodeMissingClientCapability, protocol.CodeUnsupportedProtocolVersion:
		return true
	default:
		return false
	}
}

func (w *modernHTTP) send(ctx context.Context, method string, msg []byte, f Forward) error {
	if method == "" {
		return w.t.failed(errForbidden) // there are no requests of targets to answer
	}
	ctx, cancel := context.WithTimeout(ctx, w.t.cfg.Timeout)
	defer cancel()
	resp, err := w.t.do(ctx, http.MethodPost, nil, msg, f, w.header(method, nil))
	if err != nil {
		return w.t.fault(ctx, err)
	}
	if success(resp.StatusCode) {
		ended(resp)
		return nil
	}
	m, err := w.t.rejection(resp, "")
	if err == nil {
		err = &refusal{m.Error}
	}
	return w.t.fault(ctx, err)
}

// overlap is how long a stream is still read after another has taken its place: what the target said on it before that
// may be under way.
const overlap = time.Second

func (w *modernHTTP) listen(ctx context.Context, in *intake) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(w.t.ctx, func() { cancel(errClosed) })
	defer stop()
	in.tells(1, nil)
	defer in.tells(-1, nil)
	var turn sync.Mutex // of the streams, to hand something over
	var current *modernStream
	var pause backoff
	for {
		filter, uris, changed := listenFilter(w.capabilities, in)
		if filter == nil && changed == nil {
			return errNoStream
		}
		if filter == nil {
			current.end()
			current = nil
			_ = in.moved(nil, false)
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return w.t.fault(ctx, ctx.Err())
			}
		}
		// The stream that is there goes on until the next has been acknowledged, so that nothing is missed between them.
		next := newModernStream(ctx)
		begun := time.Now()
		streams.Go(func() { next.done <- w.subscribe(next, in, &turn, filter) })
		var err error
		select {
		case <-next.there:
			missed := current.over()
			current.endLater()
			current = next
			turn.Lock()
			err = in.moved(uris, missed)
			turn.Unlock()
			if err == nil {
				select {
				case <-changed:
					continue
				case err = <-next.done:
					next.done <- err
				}
			}
		case err = <-next.done:
			next.end()
		}
		var u *unsent
		var r *refusal
		switch {
		case ctx.Err() != nil:
			return w.t.fault(ctx, ctx.Err())
		case isEmit(err), errors.As(err, &u):
			return err
		case errors.As(err, &r) && r.err.Code == protocol.CodeMethodNotFound:
			return errNoStream
		}
		if time.Since(begun) >= steady {
			pause.reset()
		}
		wait := pause.next()
		w.t.log.Debug("the stream of the target ended", "error", err, "again", wait)
		if err := sleep(ctx, wait); err != nil {
			return w.t.fault(ctx, err)
		}
	}
}

// A modernStream is one subscriptions/listen. Its methods that end it may be called on nil.
type modernStream struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	there  chan struct{} // closed by the acknowledgement
	done   chan error    // gets why it ended
}

func newModernStream(ctx context.Context) *modernStream {
	s := &modernStream{there: make(chan struct{}), done: make(chan error, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// over reports whether the stream has ended, or never began.
func (s *modernStream) over() bool { return s == nil || len(s.done) > 0 }

func (s *modernStream) end() {
	if s != nil {
		s.cancel(nil)
	}
}

func (s *modernStream) endLater() {
	if s != nil {
		time.AfterFunc(overlap, s.end)
	}
}

// subscribe opens a subscriptions/listen and reads it to its end (2026-07-28, Subscriptions). It has the turn
// whenever it hands something over.
func (w *modernHTTP) subscribe(s *modernStream, in *intake, turn *sync.Mutex, filter []byte) error {
	ctx := s.ctx
	defer s.cancel(nil)
	id := nextID()
	params := protocol.Splice(nil, protocol.Edit{Path: []string{"notifications"}, Value: filter})
	params, _ = modernParams(params, id, w.revision, capabilitiesFor(protocol.Modern, w.client), w.t.clientInfo(*w.client), nil)
	const method = "subscriptions/listen"
	// Until the acknowledgement is there, the stream is as slow as a list may be.
	late := time.AfterFunc(w.t.cfg.Timeout, func() { s.cancel(context.DeadlineExceeded) })
	defer late.Stop()
	resp, err := w.t.do(ctx, http.MethodPost, nil, protocol.AppendRequest(nil, id, method, params), in.f, w.header(method, params))
	if err != nil {
		return err
	}
	if !success(resp.StatusCode) {
		m, err := w.t.rejection(resp, id)
		switch {
		case !modernRejection(resp.StatusCode, m):
			return &unsent{err: w.t.fault(ctx, &statusError{status: resp.StatusCode}), era: true}
		case err != nil:
			return err
		default:
			return &refusal{m.Error}
		}
	}
	defer resp.Body.Close()
	if err := check(resp); err != nil {
		return err
	}
	if mediaType(resp) == jsonType {
		return w.ended(resp, id)
	}
	if mediaType(resp) != streamType {
		return errors.New("the answer to subscriptions/listen is no event stream")
	}
	running := false
	return w.t.events(resp.Body, new(cursor), func(m *protocol.Message) error {
		turn.Lock()
		defer turn.Unlock()
		switch {
		case m.Kind == protocol.Response && m.ID == id && m.Error != nil:
			return &refusal{m.Error}
		case m.Kind == protocol.Response && m.ID == id:
			return errStreamEnd
		case m.Kind == protocol.Notification && m.Method == acknowledged && !running:
			running = true
			late.Stop()
			if in.connected != nil {
				in.connected(protocol.Get(m.Params, "notifications"))
			}
			close(s.there)
			return nil
		case !running:
			return errors.New("the first message of subscriptions/listen is not the acknowledgement")
		}
		return in.take(w.t, unsubscribed(m), w, func([]byte) {})
	}, func(err error) error { return err })
}

// ended returns the error in a JSON answer to subscriptions/listen.
func (w *modernHTTP) ended(resp *http.Response, id protocol.ID) error {
	m, err := w.t.single(resp, &request{id: id})
	switch {
	case err != nil:
		return err
	case m.Error != nil:
		return &refusal{m.Error}
	default:
		return errStreamEnd
	}
}

// unsubscribed returns m without the id of the subscription, which belongs to
// one hop.
func unsubscribed(m *protocol.Message) *protocol.Message {
	if m.Kind != protocol.Notification || protocol.Get(m.Params, "_meta", protocol.MetaSubscriptionID) == nil {
		return m
	}
	edits := []protocol.Edit{edit(nil, protocol.MetaSubscriptionID)}
	members := 0
	for range protocol.Members(protocol.Get(m.Params, "_meta")) {
		members++
	}
	if members == 1 {
		edits = []protocol.Edit{{Path: []string{"_meta"}}}
	}
	return notification(m.Method, protocol.Splice(m.Params, edits...))
}

// listenFilter returns the notifications that a target of these capabilities is
// asked for, nil if there are none to ask for, the resources in it, and a channel that is closed
// when that changes, nil if it never does.
func listenFilter(capabilities []byte, in *intake) (filter []byte, uris []string, changed <-chan struct{}) {
	var edits []protocol.Edit
	for _, list := range lists {
		if string(protocol.Get(capabilities, list, "listChanged")) == "true" {
			edits = append(edits, protocol.Edit{Path: []string{list + "ListChanged"}, Value: []byte("true")})
		}
	}
	if in.interest != nil {
		var i interest
		i, changed = in.interest()
		uris = i.uris
		for _, ids := range []struct {
			name string
			ids  []string
		}{{"resourceSubscriptions", i.uris}, {"taskIds", i.tasks}} {
			if len(ids.ids) > 0 {
				edits = append(edits, protocol.Edit{Path: []string{ids.name}, Value: stringList(ids.ids)})
			}
		}
	}
	if edits == nil {
		return nil, nil, changed
	}
	return protocol.Splice(nil, edits...), uris, changed
}

// stringList returns a JSON array of strings, sorted.
func stringList(list []string) []byte {
	out := []byte{'['}
	for i, s := range slices.Sorted(slices.Values(list)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, protocol.Quote(s)...)
	}
	return append(out, ']')
}

// lists are the kinds of features that a target can announce changes of.
var lists = [...]string{"tools", "prompts", "resources"}
