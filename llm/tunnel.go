package llm

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// A tunnel is the connection of a WebSocket that is opened by a RoundTripper, which chooses the
// endpoint, secures the connection and may show the credential. To the WebSocket's client it
// is a net.Conn: the handshake that is written to it is sent as request, and the answer read
// from it; what follows goes through as it is. Deadlines have no effect: who wants to end it
// closes it.
type tunnel struct {
	via     http.RoundTripper
	request *http.Request
	conn    *websocket.Conn

	asked bytes.Buffer
	begin bytes.Buffer // what is read first
	resp  *http.Response
	err   error // of the RoundTripper
	open  io.ReadWriteCloser
}

// dial is the NetDialContext of a websocket.Dialer.
func (t *tunnel) dial(context.Context, string, string) (net.Conn, error) { return t, nil }

// handshake sends the request with the key of the handshake that was written.
func (t *tunnel) handshake() error {
	asked, err := http.ReadRequest(bufio.NewReader(&t.asked))
	if err != nil {
		return err
	}
	h := t.request.Header
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		h[name] = asked.Header[name]
	}
	if t.resp, t.err = t.via.RoundTrip(t.request); t.err != nil {
		return t.err
	}
	if t.resp.StatusCode != http.StatusSwitchingProtocols {
		return websocket.ErrBadHandshake
	}
	open, ok := t.resp.Body.(io.ReadWriteCloser)
	if !ok {
		_ = t.resp.Body.Close() // which can't be written to
		return errNoTunnel
	}
	t.open = open
	t.begin.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	head := http.Header{}
	pass(head, t.resp.Header, "Upgrade", "Connection", "Sec-Websocket-Accept", "Sec-Websocket-Protocol")
	if err := head.Write(&t.begin); err != nil {
		return err
	}
	t.begin.WriteString("\r\n")
	return nil
}

// Read implements net.Conn.
func (t *tunnel) Read(b []byte) (int, error) {
	if t.open == nil {
		if err := t.handshake(); err != nil {
			return 0, err
		}
	}
	if t.begin.Len() > 0 {
		return t.begin.Read(b)
	}
	return t.open.Read(b)
}

// Write implements net.Conn.
func (t *tunnel) Write(b []byte) (int, error) {
	if t.open == nil {
		return t.asked.Write(b)
	}
	return t.open.Write(b)
}

// Close implements net.Conn. What was answered instead of the upgrade stays readable.
func (t *tunnel) Close() error {
	if t.open == nil {
		return nil
	}
	return t.open.Close()
}

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline implements net.Conn.
func (t *tunnel) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (t *tunnel) SetWriteDeadline(time.Time) error { return nil }
