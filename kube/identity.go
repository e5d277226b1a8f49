package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// identitySecret is the name of the Secret with the authority that the certificates of all replicas of the controller are
// signed by.
const identitySecret = "mcpgw-controller-ca"

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 24 * time.Hour // it is made anew when half of that is over
	clockSkew       = 5 * time.Minute
)

// An Identity is what a controller proves itself with: a certificate that it makes itself, of the authority
// that all of its replicas share. It is safe for concurrent use.
type Identity struct {
	host string

	mu        sync.Mutex
	version   string           // of the Secret
	authority *tls.Certificate // nil before it is known
	bundle    []byte           // the authority, in PEM
	leaf      *tls.Certificate // nil when it is to be made
	renew     time.Time
}

// NewIdentity returns the identity of a controller that data planes know by host, a name or an IP address. It has no certificate before a [Source] has found one.
func NewIdentity(host string) *Identity { return &Identity{host: host} }

// Config returns how connections from data planes are secured.
func (i *Identity) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate() },
	}
}

// certificate returns the certificate, and makes it anew in time.
func (i *Identity) certificate() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	switch {
	case i.authority == nil:
		return nil, errors.New("the controller has no certificate yet")
	case i.leaf != nil && now.Before(i.renew):
		return i.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificateOf("mcpgw controller", now, certificateLife)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if ip := net.ParseIP(i.host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{i.host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.authority.Leaf, key.Public(), i.authority.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("making the controller's certificate: %w", err)
	}
	i.leaf, i.renew = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, now.Add(certificateLife/2)
	return i.leaf, nil
}

// use takes the authority from its Secret.
func (i *Identity) use(s *corev1.Secret) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if version := string(s.UID) + " " + s.ResourceVersion; version != i.version {
		pair, err := tls.X509KeyPair(s.Data[corev1.ServiceAccountRootCAKey], s.Data["ca.key"])
		if err != nil || !pair.Leaf.IsCA {
			return fmt.Errorf("ca.crt and ca.key of Secret %s are not the certificate and the key of an authority, in PEM", s.Name)
		}
		i.version, i.authority, i.leaf = version, &pair, nil
		i.bundle = s.Data[corev1.ServiceAccountRootCAKey]
	}
	return nil
}

// authorities returns what data planes check the certificate with, in PEM; nothing before it is known.
func (i *Identity) authorities() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return string(i.bundle)
}

// freshAuthority returns the Secret of a controller that had none.
func freshAuthority() (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificateOf("mcpgw controller authority", time.Now(), authorityLife)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the controller's authority: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.ServiceAccountRootCAKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"ca.key":                       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

func certificateOf(name string, now time.Time, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // it never fails
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}
