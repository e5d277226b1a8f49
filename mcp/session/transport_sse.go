package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/upstream"
)

// dialSSE opens a session over the transport of 2024-11-05 (Transports, HTTP
// with SSE): a GET stream that names the endpoint to POST to, and on which all
// that the target says comes.
func (t *Target) dialSSE(ctx context.Context, c Client, f Forward) (wire, *Discovery, error) {
	life, cancel := context.WithCancel(t.ctx)
	d := &duplex{t: t, idle: duplexIdle, end: cancel}
	d.open()
	events, endpoint, pin, err := t.openSSE(ctx, life, d, f)
	if err != nil {
		d.fail(err)
		return nil, nil, err
	}
	d.write = func(ctx context.Context, msg []byte, f Forward) (*protocol.Message, error) {
		return t.postSSE(ctx, d, endpoint, pin, msg, f)
	}
	if !t.spawn(func() { events() }) {
		d.fail(errClosed)
		return nil, nil, t.closedFault()
	}
	w := &duplexWire{duplex: d, own: true}
	disc, err := t.handshake(ctx, w, c, f)
	if err != nil {
		d.fail(err)
		return nil, nil, err
	}
	d.disc.Store(disc)
	return w, disc, nil
}

// openSSE opens the stream, which lives as long as life, and reads it until it
// names the endpoint, which ctx bounds. run reads the rest.
func (t *Target) openSSE(ctx, life context.Context, d *duplex, f Forward) (run func(), endpoint *url.URL, pin *upstream.Pin, err error) {
	stop := context.AfterFunc(ctx, d.end)
	defer stop()
	pin = new(upstream.Pin)
	h := http.Header{"Accept": {streamType}}
	resp, err := t.do(life, http.MethodGet, pin, nil, f, h)
	if err != nil {
		return nil, nil, nil, err
	}
	if !success(resp.StatusCode) {
		ended(resp)
		return nil, nil, nil, &statusError{status: resp.StatusCode}
	}
	if err := check(resp); err != nil || mediaType(resp) != streamType {
		ended(resp)
		return nil, nil, nil, errors.New("the target answered GET with something else than an event stream")
	}
	r := events.NewReader(resp.Body, t.cfg.MaxMessage)
	for endpoint == nil {
		ev, err := r.Next()
		if err == nil && ev.Type == "endpoint" {
			endpoint, err = t.endpoint(string(ev.Data))
		}
		if err != nil {
			_ = resp.Body.Close()
			return nil, nil, nil, fmt.Errorf("waiting for the endpoint event: %w", err)
		}
	}
	return func() {
		defer resp.Body.Close()
		for {
			ev, err := r.Next()
			if err != nil {
				d.fail(fmt.Errorf("%w: %w", errBroken, err))
				return
			}
			if len(ev.Data) > 0 && (ev.Type == "" || ev.Type == "message") {
				d.receive(bytes.Clone(ev.Data))
			}
		}
	}, endpoint, pin, nil
}

// endpoint returns the URL that the endpoint event names. It must be of the
// origin of the stream: credentials go there.
func (t *Target) endpoint(ref string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(ref))
	if err != nil {
		return nil, errors.New("the endpoint is no URL")
	}
	u = t.url.ResolveReference(u)
	if u.Scheme != t.url.Scheme || !strings.EqualFold(u.Hostname(), t.url.Hostname()) || port(u) != port(t.url) || u.User != nil {
		return nil, errors.New("the endpoint is of another origin than the stream")
	}
	u.Fragment = ""
	return u, nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// postSSE sends one message.
func (t *Target) postSSE(ctx context.Context, d *duplex, endpoint *url.URL, pin *upstream.Pin, msg []byte, f Forward) (*protocol.Message, error) {
	if !d.alive() {
		return nil, &unsent{err: t.failed(errBroken)}
	}
	h := http.Header{"Accept": {bothTypes}}
	if v := d.disc.Load().Version; v != "" {
		h[protocol.HeaderProtocolVersion] = []string{v}
	}
	if pin.Endpoint == "" {
		pin = nil
	}
	u := *endpoint
	resp, err := t.doURL(ctx, http.MethodPost, pin, msg, f, h, &http.Request{URL: &u})
	switch {
	case err != nil && unreachable(err) && ctx.Err() == nil:
		d.fail(errBroken)
		return nil, &unsent{err: t.fault(ctx, err)}
	case err != nil:
		return nil, err
	case success(resp.StatusCode):
		ended(resp) // the answer comes on the stream
		return nil, nil
	case resp.StatusCode == http.StatusNotFound:
		ended(resp)
		d.fail(errBroken)
		return nil, &unsent{err: t.failed(errors.New("the target lost its session"))}
	}
	return t.rejection(resp, "")
}

// handshake initializes a connection that was just opened.
func (t *Target) handshake(ctx context.Context, w *duplexWire, c Client, f Forward) (*Discovery, error) {
	m, err := w.call(ctx, &request{id: nextID(), method: "initialize", params: t.initializeParams(c), f: f})
	if err != nil {
		return nil, plain(err)
	}
	if m.Error != nil {
		return nil, &refusal{m.Error}
	}
	disc, err := discoveryOfInitialize(m.Result)
	if err != nil {
		return nil, t.failed(err)
	}
	if err := w.send(ctx, "", initialized(), f); err != nil {
		return nil, plain(err)
	}
	return disc, nil
}
