package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/replica"
	"github.com/mcpgw/mcpgw/telemetry"
)

// What a replica says of a request of a client that it passes on to another, beside
// what the client sent: it is served there as it would have been here.
const (
	peerSource      = federation.PeerHeader + "-Source"   // address and port of the client
	peerListener    = federation.PeerHeader + "-Listener" // namespace/name/listener
	peerLoopback    = federation.PeerHeader + "-Loopback"
	peerBackend     = federation.PeerHeader + "-Backend" // that the weights chose
	peerChanges     = federation.PeerHeader + "-Changes" // of services, policy.Changes as JSON in base64
	peerServerName  = federation.PeerHeader + "-Server-Name"
	peerCertificate = federation.PeerHeader + "-Certificate" // of the client, DER in base64, the leaf first
	peerVerified    = federation.PeerHeader + "-Verified"
	// peerRecord is the trailer of the answer: what was learned of the request.
	peerRecord = federation.PeerHeader + "-Record"
)

// peers sends requests of clients to other replicas: it adds what is known of the
// client, and completes the record.
type peers struct{ client *replica.Client }

// RoundTrip implements [http.RoundTripper].
func (p *peers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get(federation.PeerHeader) != federation.PeerRequest {
		return p.client.RoundTrip(r)
	}
	rec := telemetry.FromContext(r.Context())
	r.Header[peerSource] = []string{rec.Source.String()}
	r.Header[peerListener] = []string{rec.Gateway + "/" + rec.Listener}
	r.Header[peerBackend] = []string{rec.Backend}
	if federation.ListenerOf(r.Context()).Loopback {
		r.Header[peerLoopback] = []string{"true"}
	}
	if changes := policy.ChangesOf(r.Context()); changes != nil {
		text, err := json.Marshal(changes)
		if err != nil {
			return nil, err
		}
		r.Header[peerChanges] = []string{base64.StdEncoding.EncodeToString(text)}
	}
	if state := rec.Request.TLS; state != nil {
		r.Header[peerServerName] = []string{state.ServerName}
		for _, cert := range state.PeerCertificates {
			r.Header[peerCertificate] = append(r.Header[peerCertificate], base64.StdEncoding.EncodeToString(cert.Raw))
		}
		if len(state.VerifiedChains) > 0 {
			r.Header[peerVerified] = []string{"true"}
		}
	}
	telemetry.Propagate(r.Context(), r.Header)
	resp, err := p.client.RoundTrip(r)
	if err == nil {
		resp.Body = &peerBody{ReadCloser: resp.Body, resp: resp, rec: rec}
	}
	return resp, err
}

// A peerBody completes the record at the end of an answer.
type peerBody struct {
	io.ReadCloser
	resp *http.Response
	rec  *telemetry.Record
}

// Read implements [io.Reader].
func (b *peerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		var l learned
		if json.Unmarshal([]byte(b.resp.Trailer.Get(peerRecord)), &l) == nil {
			l.add(b.rec)
		}
	}
	return n, err
}

// learned is what a replica learned of a request that another accounts for.
type learned struct {
	MCP          telemetry.MCP
	ErrorType    string `json:",omitempty"`
	Error        string `json:",omitempty"`
	Policy       string `json:",omitempty"`
	UpstreamHost string `json:",omitempty"`
	Attempts     int    `json:",omitempty"`
	Retries      int    `json:",omitempty"`
	Unretried    int    `json:",omitempty"`
}

// maxPeerError bounds the text of an error between replicas.
const maxPeerError = 2 << 10

// tellPeer writes what was learned of the request after its answer.
func (x *exchange) tellPeer() {
	l := learned{MCP: x.rec.MCP, ErrorType: x.rec.ErrorType, UpstreamHost: x.rec.UpstreamHost, Attempts: x.rec.Attempts, Retries: x.rec.Retries, Unretried: x.rec.Unretried}
	if x.rec.Err != nil {
		l.Error = x.rec.Err.Error()
		l.Error = strings.ToValidUTF8(l.Error[:min(len(l.Error), maxPeerError)], "")
		var d interface{ DecidedBy() string }
		if errors.As(x.rec.Err, &d) {
			l.Policy = d.DecidedBy()
		}
	}
	if text, err := json.Marshal(l); err == nil {
		x.writer.ResponseWriter.Header()[http.TrailerPrefix+peerRecord] = []string{string(text)}
	}
}

// A peerError is what went wrong at another replica.
type peerError struct{ text, policy string }

func (e *peerError) Error() string { return e.text }

// DecidedBy returns the object whose rule denied the request, "" if none did.
func (e *peerError) DecidedBy() string { return e.policy }

func (l *learned) add(rec *telemetry.Record) {
	if rec.MCP.Method == "" || rec.MCP.Method == l.MCP.Method {
		rec.MCP = l.MCP
	}
	if l.ErrorType != "" {
		rec.ErrorType = l.ErrorType
	}
	if l.Error != "" {
		rec.Err = &peerError{l.Error, l.Policy}
	}
	rec.UpstreamHost, rec.Attempts, rec.Retries, rec.Unretried = l.UpstreamHost, l.Attempts, l.Retries, l.Unretried
}

// ServePeers serves other replicas at l until the Server that it returns is closed,
// which is for the caller to do once Run has returned.
func (s *Server) ServePeers(l net.Listener) *replica.Server {
	return replica.Serve(s.base, l, s.opts.Runtime.opts.Peers, http.HandlerFunc(s.servePeer), s.logger)
}

// servePeer serves a request of another replica.
func (s *Server) servePeer(w http.ResponseWriter, r *http.Request) {
	hub := s.opts.Runtime.hub
	if r.Header.Get(federation.PeerHeader) != federation.PeerRequest {
		hub.ServePeer(w, r)
		return
	}
	hub.Meet(r)
	port, ok := s.snapshot.Load().portOf(r.Header.Get(peerListener))
	if !ok {
		fault.New(fault.NotFound, "listener not found").WriteText(w) // its configuration is another, for now
		return
	}
	f := &front{server: s, port: port, base: s.base, peer: true}
	client, err := f.clientRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.ServeHTTP(w, client)
}

// clientRequest returns the request as the replica that passed it on got it, and notes the
// backend that it chose and what services changed there.
func (f *front) clientRequest(r *http.Request) (client *http.Request, err error) {
	h := r.Header
	ctx := federation.WithListener(federation.FromPeer(r.Context()), federation.Listener{Loopback: h.Get(peerLoopback) != ""})
	client = r.WithContext(ctx)
	client.RemoteAddr, client.TLS = h.Get(peerSource), nil
	if _, ok := h[peerServerName]; ok {
		state := &tls.ConnectionState{HandshakeComplete: true, ServerName: h.Get(peerServerName)}
		for _, text := range h[peerCertificate] {
			der, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, err
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			state.PeerCertificates = append(state.PeerCertificates, cert)
		}
		if h.Get(peerVerified) != "" {
			state.VerifiedChains = [][]*x509.Certificate{state.PeerCertificates}
		}
		client.TLS = state
	}
	f.backend = h.Get(peerBackend)
	if text := h.Get(peerChanges); text != "" {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, err
		}
		f.changes = new(policy.Changes)
		if err := json.Unmarshal(b, f.changes); err != nil {
			return nil, err
		}
	}
	for name := range h {
		if strings.HasPrefix(name, federation.PeerHeader) {
			delete(h, name)
		}
	}
	return client, nil
}

// portOf returns the port of a listener, given as namespace/name/listener.
func (s *Snapshot) portOf(name string) (number int, ok bool) {
	for n, p := range s.ports {
		p.listeners.all(func(l *listener) {
			if l.gateway+"/"+l.name == name {
				number, ok = n, true
			}
		})
	}
	return number, ok
}
