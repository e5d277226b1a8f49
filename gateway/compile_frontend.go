package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// A clientCheck is what the clients of a listener show in the TLS handshake (Gateway API, FrontendTLSValidation).
type clientCheck struct {
	config      *tls.Config // of connections, but for the certificate of the listener
	authorities []*x509.Certificate
	fallback    bool // they are asked, and served whatever they show
}

// passed reports whether a connection shows what the check asks for. It may have been made before the authorities
// changed, or for another listener.
func (k *clientCheck) passed(state *tls.ConnectionState) bool {
	if k == nil || k.fallback {
		return true
	}
	return state != nil && slices.ContainsFunc(state.VerifiedChains, func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(k.authorities, chain[len(chain)-1].Equal)
	})
}

// clientCheck returns what the clients of an HTTPS listener show, nil for nothing; ok is false where there is nothing to check it
// with, so that nobody is let in.
func (c *compiler) clientCheck(l *openListener) (check *clientCheck, ok bool) {
	g := object{"Gateway", l.of}
	path, v := config.ClientValidation(c.gateways[l.of], int32(l.port))
	if v == nil {
		return nil, true
	}
	key := g.String() + " " + path // the listeners of a Gateway share it
	if check, done := c.clientChecks[key]; done {
		return check, check != nil
	}
	defer func() { c.clientChecks[key] = check }()
	check = &clientCheck{fallback: v.Mode == gatewayv1.AllowInsecureFallback}
	pool := x509.NewCertPool()
	for i := range v.CACertificateRefs {
		for _, a := range c.clientAuthorities(g, fmt.Sprintf("%s.caCertificateRefs[%d]", path, i), &v.CACertificateRefs[i]) {
			pool.AddCert(a)
			check.authorities = append(check.authorities, a)
		}
	}
	if len(check.authorities) == 0 {
		return nil, false
	}
	check.config = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		SessionTicketsDisabled: true, // a ticket says what was checked when it was given
	}
	if check.fallback {
		check.config.ClientAuth = tls.RequestClientCert
		c.add(g, path+".mode", finding{class: config.Warning, code: config.CodeTLS, help: "remove it, or write AllowValidOnly"},
			"clients are asked for a certificate, and served whatever they show")
	}
	return check, true
}

// clientAuthorities returns the certificates that a reference of a Gateway leads to, or reports what is wrong with it and returns
// none.
func (c *compiler) clientAuthorities(o object, path string, ref *gatewayv1.ObjectReference) []*x509.Certificate {
	invalid := finding{class: config.Unresolved, code: config.CodeTLS, reason: "InvalidCACertificateRef",
		help: "the certificates stand in PEM under the key " + corev1.ServiceAccountRootCAKey + " of a ConfigMap or Secret"}
	kind := string(ref.Kind)
	if ref.Group != "" || kind != "ConfigMap" && kind != "Secret" {
		invalid.reason, invalid.help = "InvalidCACertificateKind", "name a ConfigMap or a Secret"
		c.add(o, path+".kind", invalid, "certificates of authorities come from ConfigMaps and Secrets, not from kind %s of group %q", kind, ref.Group)
		return nil
	}
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		name.Namespace = string(*ref.Namespace)
	}
	grant := reference{from: "Gateway", fromGroup: gatewayv1.GroupName, to: kind}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return nil
	}
	found := certificatesIn(c.bundle(kind, name))
	if len(found) == 0 {
		c.add(o, path+".name", invalid, "%s %q has no certificates, or is not there", kind, name.Name)
	}
	return found
}

// bundle returns the authorities that a ConfigMap or Secret holds, in PEM; nil where it is not there or holds none.
func (c *compiler) bundle(kind string, name types.NamespacedName) []byte {
	switch kind {
	case "ConfigMap":
		if m := c.res.ConfigMap(name.Namespace, name.Name); m != nil {
			return []byte(m.Data[corev1.ServiceAccountRootCAKey])
		}
	case "Secret":
		if s := c.secrets[name]; s != nil {
			return s.Data[corev1.ServiceAccountRootCAKey]
		}
	}
	return nil
}

// certificatesIn returns the certificates of a bundle in PEM that can be read.
func certificatesIn(bundle []byte) (out []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return out
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if a, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, a)
		}
	}
}
