// Package replica is how the replicas of a gateway reach each other: HTTP/2 over TLS
// in which each side proves that it has one of the session keys of the other.
//
// Its central type is [Ring]: what a process derives from its session keys, one
// identity a key. A [Client] sends requests to other replicas, a [Server] takes
// theirs; both accept whoever has a key of the ring, and nobody else, so that keys
// can be rotated while replicas have some in common. Nothing else is shared, and no
// certificate authority is asked. Package gateway says what is sent.
package replica

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Ring holds the identities of a process, and those that it accepts, which are
// the same. It is safe for concurrent use.
type Ring struct {
	identities atomic.Pointer[[]identity]
}

// An identity is what is derived from one session key.
type identity struct {
	id     string // tells identities apart; says nothing of the key
	public ed25519.PublicKey
	cert   tls.Certificate
}

// suffix ends the server name by which a client says which identities it has.
const suffix = "peer.mcpgw"

// NewRing returns the ring of the session keys, newest first.
func NewRing(keys ...[]byte) (*Ring, error) {
	r := &Ring{}
	return r, r.SetKeys(keys...)
}

// SetKeys makes the ring that of other keys. Connections that were made with a key
// that is gone are of no use any more.
func (r *Ring) SetKeys(keys ...[]byte) error {
	if len(keys) == 0 {
		return errors.New("replicas know each other by session keys, and there are none")
	}
	ids := make([]identity, 0, len(keys))
	for i, key := range keys {
		id, err := newIdentity(key)
		if err != nil {
			return fmt.Errorf("session key %d: %w", i+1, err)
		}
		ids = append(ids, id)
	}
	r.identities.Store(&ids)
	return nil
}

func newIdentity(key []byte) (identity, error) {
	seed, err := hkdf.Key(sha256.New, key, nil, "mcpgw peer v1", ed25519.SeedSize)
	if err != nil {
		return identity{}, err
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return identity{}, errors.New("not an Ed25519 key")
	}
	sum := sha256.Sum256(public)
	id := hex.EncodeToString(sum[:4])
	// Whoever checks it looks at the key alone, so nothing else has to be true.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: id + "." + suffix},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: none
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		return identity{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return identity{}, err
	}
	return identity{id: id, public: public, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}}, nil
}

var errStranger = errors.New("the peer has none of our session keys")

// knows returns an error unless the other side of the connection has a key of the
// ring.
func (r *Ring) knows(state *tls.ConnectionState) error {
	if state != nil && len(state.PeerCertificates) > 0 {
		if public, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			if slices.ContainsFunc(*r.identities.Load(), func(id identity) bool { return id.public.Equal(public) }) {
				return nil
			}
		}
	}
	return errStranger
}

// serverName names the identities of the ring, so that a server can show one that is
// known here.
func (r *Ring) serverName() string {
	var b strings.Builder
	for _, id := range *r.identities.Load() {
		b.WriteString(id.id + ".")
	}
	return b.String() + suffix
}

// client returns the configuration of connections to other replicas.
func (r *Ring) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: r.serverName(),
		NextProtos: []string{"h2"},
		// No authority vouches for a peer, its key does: VerifyConnection looks at it.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   func(state tls.ConnectionState) error { return r.knows(&state) },
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for _, id := range *r.identities.Load() {
				if info.SupportsCertificate(&id.cert) == nil {
					return &id.cert, nil
				}
			}
			return nil, errStranger
		},
	}
}

// server returns the configuration of connections from other replicas.
func (r *Ring) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			ids := *r.identities.Load()
			shown := slices.IndexFunc(ids, func(id identity) bool { return strings.Contains(hello.ServerName, id.id) })
			if shown < 0 {
				return nil, errStranger
			}
			known := x509.NewCertPool() // tells the client which of its own to show
			for _, id := range ids {
				known.AddCert(id.cert.Leaf)
			}
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				NextProtos:             []string{"h2"},
				Certificates:           []tls.Certificate{ids[shown].cert},
				ClientAuth:             tls.RequireAnyClientCert,
				ClientCAs:              known,
				SessionTicketsDisabled: true,
				VerifyConnection:       func(state tls.ConnectionState) error { return r.knows(&state) },
			}, nil
		},
	}
}
