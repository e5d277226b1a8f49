package kube

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestIdentity: all replicas have certificates of one authority, made anew in time; those of another authority
// do not hold any more once there is one.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := func(version string) *corev1.Secret {
			data, err := freshAuthority()
			if err != nil {
				t.Fatal(err)
			}
			s := &corev1.Secret{Data: data}
			s.ResourceVersion = version
			return s
		}
		for _, host := range []string{"mcpgw-controller.system.svc", "10.0.0.7"} {
			i := NewIdentity(host)
			if _, err := i.Config().GetCertificate(nil); err == nil {
				t.Error("there is a certificate before there is an authority")
			}
			check := func() *x509.Certificate {
				t.Helper()
				c, err := i.Config().GetCertificate(nil)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := x509.ParseCertificate(c.Certificate[0])
				if err != nil {
					t.Fatal(err)
				}
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM([]byte(i.authorities()))
				if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: time.Now()}); err != nil {
					t.Error(err)
				}
				return leaf
			}
			if err := i.use(fresh("1")); err != nil {
				t.Fatal(err)
			}
			first := check()
			if !check().Equal(first) {
				t.Error("a certificate is made for each connection")
			}
			time.Sleep(certificateLife/2 + time.Second)
			if check().Equal(first) {
				t.Error("the certificate is not made anew")
			}
			if err := i.use(fresh("2")); err != nil {
				t.Fatal(err)
			}
			check()
			if err := i.use(&corev1.Secret{Data: map[string][]byte{"ca.crt": []byte("x")}}); err == nil {
				t.Error("what is no authority is taken for one")
			}
		}
	})
}
