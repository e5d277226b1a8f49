package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/config"
)

// A binding is a port that is listened on.
type binding struct {
	loopback, tls bool
	idle          time.Duration // as the port has it
	server        *http.Server
	cutOff        context.CancelCauseFunc // ends the context of what the port serves
	sockets       []net.Listener
	leans         []*leanServer // one a socket
}

// bind opens the ports of the snapshot that are not open yet. A port that can't be opened
// is reported and tried again later: the rest is served.
func (s *Server) bind(snapshot *Snapshot) {
	clear(s.pending)
	for number, p := range snapshot.ports {
		if b := s.bindings[number]; b != nil {
			if b.loopback == p.loopback && b.tls == p.tls && b.idle == p.idle {
				continue
			}
			delete(s.bindings, number)
			b.stop()
			s.serving.Go(func() { s.endLater(b) })
		}
		if err := s.open(number, p); err != nil {
			s.pending[number] = portUnavailable(snapshot, number, err)
		}
	}
}

// bindPending tries the ports again that could not be opened.
func (s *Server) bindPending() {
	s.mu.Lock()
	defer s.mu.Unlock()
	snapshot := s.snapshot.Load()
	for number := range s.pending {
		if s.ending || s.open(number, snapshot.ports[number]) != nil {
			continue
		}
		delete(s.pending, number)
		s.logger.Info("listening", slog.Int("port", number))
	}
}

// retire closes the ports that the snapshot has no more. Requests under way there
// go on for the time of a drain.
func (s *Server) retire(snapshot *Snapshot) {
	for number, b := range s.bindings {
		if snapshot.ports[number] == nil {
			delete(s.bindings, number)
			b.stop()
			s.serving.Go(func() { s.endLater(b) })
		}
	}
}

func (s *Server) endLater(b *binding) {
	deadline, cancel := context.WithTimeout(s.base, s.opts.DrainTimeout)
	defer cancel()
	last, cancelLast := context.WithCancel(context.Background())
	defer cancelLast()
	stop := context.AfterFunc(deadline, func() {
		b.cutOff(errDraining)
		time.AfterFunc(lastWords, cancelLast)
	})
	defer stop()
	b.end(last)
}

// open listens on a port and serves it.
func (s *Server) open(number int, p *port) error {
	hosts := []string{""}
	if p.loopback {
		hosts = []string{"127.0.0.1", "::1"}
	}
	b := &binding{loopback: p.loopback, tls: p.tls, idle: p.idle}
	var base context.Context
	base, b.cutOff = context.WithCancelCause(s.base)
	b.server = s.newHTTPServer(p, base)
	for i, host := range hosts {
		l, err := s.opts.Listen(s.base, "tcp", net.JoinHostPort(host, strconv.Itoa(number)))
		if err != nil && i > 0 {
			break // a machine without IPv6
		}
		if err != nil {
			b.cutOff(nil)
			return fmt.Errorf("listening on port %d: %w", number, err)
		}
		b.sockets = append(b.sockets, l)
	}
	for _, l := range b.sockets {
		var accept net.Listener = &wireListener{Listener: l, server: s}
		if p.tls {
			secure := newTLSListener(accept, s.tlsConfig(number))
			s.serving.Go(secure.run)
			accept = secure
		}
		lean := newLeanServer(s, accept, b.server.Handler, b.server.BaseContext(l), p.idle)
		b.leans = append(b.leans, lean)
		s.serving.Go(lean.run)
		s.serving.Go(func() {
			if err := b.server.Serve(lean); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				s.logger.Error("listener ended", slog.Int("port", number), slog.Any("error", err))
			}
		})
	}
	s.bindings[number] = b
	return nil
}

// stop stops accepting connections.
func (b *binding) stop() {
	for _, l := range b.sockets {
		_ = l.Close() // it is not used any more either way
	}
	b.lastAnswers()
}

// lastAnswers has each connection end with its next answer.
func (b *binding) lastAnswers() {
	for _, l := range b.leans {
		l.closing.Store(true)
	}
	b.server.SetKeepAlivesEnabled(false) // answers say Connection: close
}

// end closes the port's connections, those with a request once it has ended or ctx has.
func (b *binding) end(ctx context.Context) {
	b.stop()
	var ended sync.WaitGroup
	for _, l := range b.leans {
		ended.Go(func() { l.end(ctx) })
	}
	if err := b.server.Shutdown(ctx); err != nil {
		_ = b.server.Close() // the time is up, whatever it says
	}
	ended.Wait()
	b.cutOff(errDraining) // the answers that have left the server
}

// A wireListener checks and counts the connections that it accepts.
type wireListener struct {
	net.Listener
	server *Server
}

// Accept implements [net.Listener].
func (l *wireListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.conns.Add(1)
	return &wire{Conn: c, patience: l.server.opts.WritePatience, closed: func() { l.server.conns.Add(-1) }}, nil
}

// tlsConfig returns the TLS configuration of a port. The certificate, and what clients show, are those of the
// listener in the snapshot at the time of the handshake, so new ones are used at once.
func (s *Server) tlsConfig(number int) *tls.Config {
	find := func(hello *tls.ClientHelloInfo) *listener {
		if p := s.snapshot.Load().ports[number]; p != nil {
			return p.listener(serverNameOf(hello.ServerName))
		}
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			l := find(hello)
			if l == nil || l.clients == nil {
				return nil, nil // this one
			}
			cfg := l.clients.config.Clone()
			cfg.Certificates = []tls.Certificate{*l.certificate}
			return cfg, nil
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if l := find(hello); l != nil && l.certificate != nil {
				return l.certificate, nil
			}
			return nil, nil // the alert is unrecognized_name (RFC 6066, section 3)
		},
	}
}

const tlsHandshakeTimeout = 10 * time.Second

// A tlsListener ends TLS before net/http sees a connection, so that HTTP/1.1 inside
// TLS is read by a wire, too. HTTP/2 connections go to net/http as they are.
type tlsListener struct {
	net.Listener
	config *tls.Config
	ready  chan net.Conn
	open   context.Context // ends when the listener is closed, and with it the handshakes
	finish context.CancelFunc
}

func newTLSListener(l net.Listener, cfg *tls.Config) *tlsListener {
	t := &tlsListener{Listener: l, config: cfg, ready: make(chan net.Conn)}
	t.open, t.finish = context.WithCancel(context.Background())
	return t
}

// run accepts connections until the listener is closed, and ends once nothing is left of those
// that nobody took.
func (t *tlsListener) run() {
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	defer t.finish()
	var pause time.Duration
	for {
		c, err := t.Listener.Accept()
		switch {
		case err == nil:
			pause = 0
			handshakes.Go(func() { t.handshake(c) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, say: as net/http does
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-t.open.Done():
				return
			}
		}
	}
}

func (t *tlsListener) handshake(c net.Conn) {
	raw, _ := c.(*wire)
	raw.stepAside() // what it sees is encrypted
	ctx, cancel := context.WithTimeout(t.open, tlsHandshakeTimeout)
	defer cancel()
	conn := tls.Server(c, t.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nthis port speaks HTTPS, and the request came without TLS")
		}
		_ = conn.Close() // the peer knows why
		return
	}
	var out net.Conn = conn
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		out = &wire{Conn: conn}
	}
	select {
	case t.ready <- out:
	case <-t.open.Done():
		_ = out.Close()
	}
}

// looksLikeHTTP reports whether what should be a TLS record begins as a request without TLS does.
func looksLikeHTTP(record [5]byte) bool {
	switch string(record[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	default:
		return false
	}
}

// tlsStateKey is the context key of the state of a TLS connection that net/http takes for a
// plain one.
type tlsStateKey struct{}

// connContext adds the TLS state of a connection to the context of its requests.
func connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, resetsKey{}, &resets{conn: c})
	if w, ok := c.(*wire); ok {
		if t, ok := w.Conn.(*tls.Conn); ok {
			state := t.ConnectionState()
			return context.WithValue(ctx, tlsStateKey{}, &state)
		}
	}
	return ctx
}

// Accept implements [net.Listener].
func (t *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-t.ready:
		return c, nil
	case <-t.open.Done():
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (t *tlsListener) Close() error {
	t.finish()
	return t.Listener.Close()
}

// portUnavailable is the problem of a port that could not be opened.
func portUnavailable(snapshot *Snapshot, number int, err error) config.Problem {
	p := config.Problem{
		Class: config.Unresolved, Code: config.CodeListener, Reason: "PortUnavailable",
		Message: fmt.Sprintf("port %d can't be listened on: %v", number, err),
		Help:    "it is tried again every second",
	}
	snapshot.ports[number].listeners.all(func(l *listener) {
		p.Object = l.owner
		if l.path != "" {
			p.Path = l.path + ".port"
		}
	})
	return p
}
