package gateway

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/upstream"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// defaultRegion is the AWS region where the configuration names none.
const defaultRegion = "us-east-1"

// lambdaBackend compiles a Backend of type AWS.
func (c *compiler) lambdaBackend(o object, b *v1alpha1.Backend, d *destination) {
	spec, conn := b.Spec.AWS, c.backendConnection(b)
	partition, region, account, function, qualifier := "aws", spec.Region, spec.AccountID, spec.Lambda.FunctionName, spec.Lambda.Qualifier
	if parts := strings.Split(spec.Lambda.ARN, ":"); len(parts) >= 7 { // validated, and to agree with the rest
		partition, region, account, function = parts[1], parts[3], parts[4], parts[6]
		if len(parts) > 7 {
			qualifier = parts[7]
		}
	}
	region, qualifier = cmp.Or(region, defaultRegion), cmp.Or(qualifier, "$LATEST")
	if strings.HasPrefix(region, "cn-") {
		partition = "aws-cn"
	}
	at := "https://lambda." + region + ".amazonaws.com"
	if partition == "aws-cn" {
		at += ".cn"
	}
	endpoint, err := url.Parse(cmp.Or(spec.Lambda.EndpointURL, at))
	if err != nil {
		d.fault = misconfigured
		c.add(o, "spec.aws.lambda.endpointURL", finding{class: config.Invalid, code: config.CodeInvalidValue}, "%q is not a URL", spec.Lambda.EndpointURL)
		return
	}
	credentials := c.awsCredentials(o, "spec.aws.auth", spec.Auth, region)
	switch {
	case conn.broken:
		d.fault = misconfigured
		return
	case credentials == nil:
		d.fault = withoutCredential
		return
	}
	arn := strings.Join([]string{"arn", partition, "lambda", region, account, "function", function}, ":")
	d.backend = &upstream.Lambda{
		RoundTripper: sigv4.New(c.endpointPool(*conn, o.String(), endpoint), sigv4.Options{Service: "lambda", Region: region, Credentials: credentials}),
		URL:          upstream.LambdaURL(endpoint, arn, qualifier),
		Async:        spec.Lambda.InvocationMode == v1alpha1.LambdaAsync,
		Raw:          spec.Lambda.PayloadTransformMode == v1alpha1.LambdaPayloadNone,
	}
}

// endpointPool returns the pool of the host of a URL, reached by https where its scheme or conn
// says so.
func (c *compiler) endpointPool(conn connection, identity string, endpoint *url.URL) *upstream.Pool {
	port := cmp.Or(endpoint.Port(), map[string]string{"http": "80", "https": "443"}[endpoint.Scheme])
	if conn.opts.TLS == nil && endpoint.Scheme == "https" {
		conn.opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: endpoint.Hostname()}
		identity += "/tls/" + endpoint.Hostname()
	}
	return c.connected(&conn, identity, upstream.HTTP1, []string{net.JoinHostPort(endpoint.Hostname(), port)})
}

// awsCredentials returns the credentials that requests to AWS are signed with: those of a
// Secret, or what the process runs on. When the Secret is missing or lacks a key it reports
// that and returns nil.
func (c *compiler) awsCredentials(o object, path string, auth *v1alpha1.AWSAuth, region string) aws.CredentialsProvider {
	if auth == nil {
		return c.ambient(region)
	}
	path += ".secretRef.name"
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: auth.SecretRef.Name}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path, name, "Invalid")
		return nil
	}
	value := func(key string) secret.Value {
		v := strings.TrimSpace(string(s.Data[key]))
		if !utf8.ValidString(v) {
			v = ""
		}
		return secret.New(v)
	}
	out := sigv4.Static{AccessKey: value("accessKey"), SecretKey: value("secretKey"), SessionToken: value("sessionToken")}
	for _, need := range []struct {
		key   string
		value secret.Value
	}{{"accessKey", out.AccessKey}, {"secretKey", out.SecretKey}} {
		if need.value.IsZero() {
			c.add(o, path, finding{
				class: config.Unresolved, code: config.CodeUnresolvedSecret, reason: "Invalid",
				help: "the keys are accessKey and secretKey and, for temporary credentials, sessionToken",
			}, "Secret %q has no usable key %s", name.Name, need.key)
			return nil
		}
	}
	return out
}

// ambient returns the credentials of what the process runs on, for a region.
func (c *compiler) ambient(region string) *sigv4.Ambient {
	a := c.snapshot.aws[region]
	if a == nil {
		a = c.rt.ambient(region)
		c.snapshot.aws[region] = a
	}
	return a
}

// ambient returns the credentials of what the process runs on: those in use, or new ones,
// which are kept once a snapshot with them is prepared.
func (rt *Runtime) ambient(region string) *sigv4.Ambient {
	if rt != nil {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if a := rt.aws[region]; a != nil {
			return a
		}
	}
	return sigv4.NewAmbient(region)
}
