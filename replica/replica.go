package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// dialTimeout bounds how long a replica may take to answer at all: one that is
	// gone must not keep clients waiting.
	dialTimeout = 2 * time.Second
	// downFor is how long a replica that did not answer is not tried again.
	downFor = time.Second
	// pingAfter and pingTimeout say when a connection on which nothing comes is taken
	// for dead.
	pingAfter   = 5 * time.Second
	pingTimeout = 3 * time.Second
	// maxPeers bounds the replicas that are remembered as down.
	maxPeers = 1024
	// maxPeerStreams bounds the requests under way on one connection; a client opens
	// another then.
	maxPeerStreams = 1000
)

// ErrUnreachable is wrapped by the errors of a [Client] that say that a replica
// could not be reached, or went before it answered.
var ErrUnreachable = errors.New("the replica cannot be reached")

// A Client sends requests to other replicas. It is an [http.RoundTripper]; the
// host of a request's URL is the address of a replica, its scheme https. It is safe
// for concurrent use.
type Client struct {
	ring      *Ring
	transport *http.Transport
	down      *lru.Cache[string, time.Time]
}

// NewClient returns a client that knows replicas by the ring.
func NewClient(ring *Ring) *Client {
	c := &Client{ring: ring}
	c.down, _ = lru.New[string, time.Time](maxPeers) // the error is for sizes that are not positive
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	c.transport = &http.Transport{
		DialTLSContext:     c.dial,
		Protocols:          protocols,
		IdleConnTimeout:    90 * time.Second,
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	return c
}

// dial connects to a replica.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if since, ok := c.down.Get(addr); ok && time.Since(since) < downFor {
		return nil, errors.New("it did not answer a moment ago")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: c.ring.client()}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) {
			c.down.Add(addr, time.Now())
		}
		return nil, err
	}
	c.down.Remove(addr)
	return conn, nil
}

// RoundTrip implements [http.RoundTripper]. Its errors wrap [ErrUnreachable] unless
// the context of r has ended.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.transport.RoundTrip(r)
	switch {
	case err == nil:
		return resp, nil
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	default:
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, r.URL.Host, err)
	}
}

// Close closes idle connections: those that are made anew know the ring as it is.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// A Server takes the requests of other replicas.
type Server struct {
	http    *http.Server
	serving sync.WaitGroup
}

// Serve serves handler to replicas that the ring knows, at l, until Close. The
// context of requests descends from base.
func Serve(base context.Context, l net.Listener, ring *Ring, handler http.Handler, logger *slog.Logger) *Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	s := &Server{http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := ring.knows(r.TLS); err != nil { // it did when it connected
				w.Header().Set("Connection", "close")
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			handler.ServeHTTP(w, r)
		}),
		TLSConfig:         ring.server(),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    384 << 10, // a client's, what is known of the client, and what services changed
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxPeerStreams,
			MaxReceiveBufferPerConnection: 4 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}}
	s.serving.Go(func() {
		if err := s.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("listener ended", slog.String("for", "peers"), slog.Any("error", err))
		}
	})
	return s
}

// Close ends the connections at once.
func (s *Server) Close() {
	_ = s.http.Close() // it is not used any more either way
	s.serving.Wait()
}
