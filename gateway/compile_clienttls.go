package gateway

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A clientTLS is how endpoints are spoken to over TLS.
type clientTLS struct {
	config       *tls.Config // nil when something is missing
	material     []any       // what it was made of, plain data
	http1, http2 bool        // only that is spoken
}

// fingerprint tells apart what differs; "" for a nil clientTLS. It holds hashes of keys only.
func (t *clientTLS) fingerprint() string {
	if t == nil {
		return ""
	}
	return fingerprint(t.material...)
}

// backendTLS returns the TLS that a BackendConfigPolicy asks for; host is the server's name
// where nothing else says it.
func (c *compiler) backendTLS(o object, path string, spec *v1alpha1.BackendTLS, host string) *clientTLS {
	t := &clientTLS{material: []any{spec, host}}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cmp.Or(spec.SNI, host)}
	if spec.AllowRenegotiation {
		cfg.Renegotiation = tls.RenegotiateFreelyAsClient
	}
	ok := c.parameters(o, path+".parameters", spec.Parameters, cfg)
	var authorities, certificate, key []byte
	source := path // of them
	switch {
	case spec.SecretRef != nil:
		source = path + ".secretRef.name"
		name := types.NamespacedName{Namespace: o.name.Namespace, Name: spec.SecretRef.Name}
		s := c.secrets[name]
		if s == nil {
			c.secretNotFound(o, source, name, "Invalid")
			return t
		}
		authorities, certificate, key = s.Data[corev1.ServiceAccountRootCAKey], s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]
		if authorities == nil && certificate == nil {
			c.add(o, source, finding{
				class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the authorities stand under the key ca.crt, a client certificate under tls.crt and tls.key, in PEM",
			}, "Secret %q has neither ca.crt nor tls.crt", name.Name)
			return t
		}
	case spec.Files != nil:
		source = path + ".files"
		var fine [3]bool
		authorities, fine[0] = c.file(o, source+".rootCA", spec.Files.RootCA)
		certificate, fine[1] = c.file(o, source+".tlsCertificate", spec.Files.TLSCertificate)
		key, fine[2] = c.file(o, source+".tlsKey", spec.Files.TLSKey)
		ok = ok && fine == [3]bool{true, true, true}
	case spec.InsecureSkipVerify != nil && *spec.InsecureSkipVerify:
		cfg.InsecureSkipVerify = true
		c.add(o, path+".insecureSkipVerify", finding{class: config.Warning, code: config.CodeUnused, help: "name the authorities in secretRef instead"},
			"the endpoints' certificates are not verified: anyone on the way can read and change what is sent")
	}
	t.material = append(t.material, fingerprint(authorities, certificate, key))
	ok = c.trust(o, source, authorities, cfg) && ok
	if certificate != nil && !spec.SimpleTLS {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			c.add(o, source, finding{class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "write the certificate and its private key in PEM"},
				"the client certificate can't be used: %v", err)
			return t
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if len(spec.VerifySubjectAltNames) > 0 {
		verifyNames(cfg, spec.VerifySubjectAltNames, nil)
	}
	if p := spec.ALPNProtocols; len(p) > 0 {
		t.http2, t.http1 = !slices.Contains(p, "http/1.1"), !slices.Contains(p, "h2")
		if t.http1 && t.http2 {
			c.add(o, path+".alpnProtocols", finding{class: config.Invalid, code: config.CodeTLS, help: "write h2 or http/1.1, or leave it out"},
				"the gateway speaks none of %s", strings.Join(p, ", "))
			return t
		}
	}
	if ok {
		t.config = cfg
	}
	return t
}

// file returns the contents of a file, which may be unnamed.
func (c *compiler) file(o object, path, name string) (b []byte, ok bool) {
	if name == "" {
		return nil, true
	}
	b, err := os.ReadFile(name)
	if err != nil {
		c.add(o, path, finding{class: config.Unresolved, code: config.CodeTLS, help: "the file is read by the gateway on its own machine"}, "%v", err)
	}
	return b, err == nil
}

// trust has cfg trust the authorities; nil leaves it to those of the system.
func (c *compiler) trust(o object, path string, authorities []byte, cfg *tls.Config) bool {
	if authorities == nil {
		return true
	}
	cfg.RootCAs = x509.NewCertPool()
	if cfg.RootCAs.AppendCertsFromPEM(authorities) {
		return true
	}
	c.add(o, path, finding{class: config.Unresolved, code: config.CodeTLS, reason: "InvalidCACertificateRef", help: "write certificates in PEM"}, "the authorities hold no usable certificate")
	return false
}

// parameters sets versions, ciphers and curves.
func (c *compiler) parameters(o object, path string, spec *v1alpha1.TLSParameters, cfg *tls.Config) bool {
	if spec == nil {
		return true
	}
	versions := map[v1alpha1.TLSVersion]uint16{v1alpha1.TLS10: tls.VersionTLS10, v1alpha1.TLS11: tls.VersionTLS11, v1alpha1.TLS12: tls.VersionTLS12, v1alpha1.TLS13: tls.VersionTLS13}
	cfg.MinVersion, cfg.MaxVersion = cmp.Or(versions[spec.MinVersion], tls.VersionTLS12), versions[spec.MaxVersion]
	refuse := func(path, format string, args ...any) bool {
		c.add(o, path, finding{class: config.Invalid, code: config.CodeTLS}, format, args...)
		return false
	}
	if cfg.MaxVersion != 0 && cfg.MinVersion > cfg.MaxVersion {
		return refuse(path+".maxVersion", "maxVersion is lower than minVersion, which is 1.2 unless it is set")
	}
	for i, name := range spec.CipherSuites {
		all := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
		at := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == name || openSSLName(s.Name) == name })
		if at < 0 {
			return refuse(fmt.Sprintf("%s.cipherSuites[%d]", path, i), "the cipher %s is not known", name)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, all[at].ID)
	}
	curves := map[string]tls.CurveID{"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519MLKEM768": tls.X25519MLKEM768}
	for i, name := range spec.ECDHCurves {
		id, ok := curves[name]
		if !ok {
			return refuse(fmt.Sprintf("%s.ecdhCurves[%d]", path, i), "the curve %s is not known: use X25519, P-256, P-384 or P-521", name)
		}
		cfg.CurvePreferences = append(cfg.CurvePreferences, id)
	}
	return true
}

// openSSLName returns what OpenSSL, and so Envoy, calls a cipher of TLS 1.2:
// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256.
func openSSLName(name string) string {
	name = strings.NewReplacer("TLS_", "", "WITH_", "", "AES_", "AES", "_CBC_SHA", "_SHA", "POLY1305_SHA256", "POLY1305").Replace(name)
	name = strings.ReplaceAll(name, "_", "-")
	return strings.TrimPrefix(name, "RSA-") // of ciphers without a key exchange of their own
}

// verifyNames has the certificate be for one of the names or URIs, in place of the name of the
// server.
func verifyNames(cfg *tls.Config, names, uris []string) {
	if cfg.InsecureSkipVerify {
		return
	}
	roots := cfg.RootCAs
	cfg.InsecureSkipVerify = true // what it would do is done here
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		leaf, between := s.PeerCertificates[0], x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
			return err
		}
		for _, n := range names {
			if leaf.VerifyHostname(n) == nil {
				return nil
			}
		}
		for _, u := range leaf.URIs {
			if slices.Contains(uris, u.String()) {
				return nil
			}
		}
		return fmt.Errorf("the certificate is for %s: %w", strings.Join(leaf.DNSNames, ", "), errNames)
	}
}

var errNames = errors.New("it carries none of the names that the configuration demands")

// compileBackendTLS notes what BackendTLSPolicies cover: of several that cover the same, the
// oldest wins (Gateway API, BackendTLSPolicy).
func (c *compiler) compileBackendTLS() {
	policies := slices.Clone(c.res.BackendTLS)
	slices.SortStableFunc(policies, func(a, b *gatewayv1.BackendTLSPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range policies {
		o := objectOf("BackendTLSPolicy", p)
		for i, t := range p.Spec.TargetRefs {
			at := attachment{kind: string(t.Kind), name: types.NamespacedName{Namespace: p.Namespace, Name: string(t.Name)}}
			path := fmt.Sprintf("spec.targetRefs[%d]", i)
			if !c.checkTarget(o, path, at) {
				continue
			}
			if t.SectionName != nil {
				at.section = string(*t.SectionName)
			}
			if older := c.encrypted[at]; older != nil {
				c.add(o, path, finding{class: config.Unresolved, code: config.CodeTLS, reason: "Conflicted", help: "remove one of them"},
					"BackendTLSPolicy %q is older and covers the same", older.Name)
				continue
			}
			c.encrypted[at] = p
		}
	}
}

// serviceTLS returns the TLS that a BackendTLSPolicy asks for: that of the port, else that of
// the whole; nil without. The certificate that clients show there is the Gateway's.
func (c *compiler) serviceTLS(at attachment, host string) *clientTLS {
	p := c.encrypted[at]
	if p == nil {
		at.section = ""
		if p = c.encrypted[at]; p == nil {
			return nil
		}
	}
	o, v := objectOf("BackendTLSPolicy", p), &p.Spec.Validation
	t := &clientTLS{material: []any{v, host}}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: string(v.Hostname)}
	if v.WellKnownCACertificates == nil || *v.WellKnownCACertificates == "" {
		authorities, ok := c.caCertificates(o, p)
		if !ok || !c.trust(o, "spec.validation.caCertificateRefs", authorities, cfg) {
			return t
		}
		t.material = append(t.material, string(authorities))
	}
	var names, uris []string
	for _, n := range v.SubjectAltNames {
		if n.Type == gatewayv1.URISubjectAltNameType {
			uris = append(uris, string(n.URI))
		} else {
			names = append(names, string(n.Hostname))
		}
	}
	if len(names)+len(uris) > 0 {
		verifyNames(cfg, names, uris)
	}
	if c.shown != nil {
		t.material = append(t.material, c.shown.fingerprint)
		if c.shown.certificate == nil {
			return t
		}
		cfg.Certificates = []tls.Certificate{*c.shown.certificate}
	}
	t.config = cfg
	return t
}

// caCertificates returns the authorities of a BackendTLSPolicy; ok is false when one is
// missing.
func (c *compiler) caCertificates(o object, p *gatewayv1.BackendTLSPolicy) (out []byte, ok bool) {
	ok = len(p.Spec.Validation.CACertificateRefs) > 0
	for i, ref := range p.Spec.Validation.CACertificateRefs {
		name := types.NamespacedName{Namespace: p.Namespace, Name: string(ref.Name)}
		var pem []byte
		reason := "InvalidCACertificateRef"
		if ref.Group == "" && (ref.Kind == "ConfigMap" || ref.Kind == "Secret") {
			pem = c.bundle(string(ref.Kind), name)
		} else {
			reason = "InvalidKind"
		}
		if len(pem) == 0 {
			ok = false
			c.add(o, fmt.Sprintf("spec.validation.caCertificateRefs[%d]", i), finding{
				class: config.Unresolved, code: config.CodeTLS, reason: reason, help: "the certificates stand in PEM under the key ca.crt of a ConfigMap or Secret in this namespace",
			}, "%s %q has no certificates, or is not there", ref.Kind, ref.Name)
		}
		out = append(append(out, pem...), '\n')
	}
	return out, ok
}
