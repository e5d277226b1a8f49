// Package sigv4 signs requests to AWS.
//
// A [Transport] is an http.RoundTripper in front of another one: it signs each request
// with Signature Version 4, by the signer of the AWS SDK, and hands it on. Credentials
// are those of a Secret ([Static]) or of what the process runs on ([NewAmbient]). Package
// gateway puts a Transport before the pool of whatever is reached with AWS credentials;
// service and region are options.
//
// It knows nothing of what the requests ask for, and never waits for credentials longer
// than a request may take.
package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// Options say what a [Transport] signs for.
type Options struct {
	Service string // bedrock, lambda
	Region  string // eu-west-1
	// Credentials are asked for each request; they are to be cached. When they come from
	// an [Ambient], those that AWS refuses are renewed.
	Credentials aws.CredentialsProvider
}

// A Transport signs requests and sends them by another http.RoundTripper. It is safe for
// concurrent use.
//
// A request must have a Host, since that is signed whatever host it is sent to, and a
// GetBody if it has a body, which is hashed before it is sent. Without credentials nothing
// is sent, and the error is a fault that says upstream_unreachable.
type Transport struct {
	next   http.RoundTripper
	opts   Options
	signer *v4.Signer
}

// New returns a Transport before next.
func New(next http.RoundTripper, opts Options) *Transport {
	return &Transport{next: next, opts: opts, signer: v4.NewSigner()}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	hash, err := hashBody(r)
	if err != nil {
		return nil, err
	}
	creds, err := t.credentials(r.Context())
	if err != nil {
		return nil, err
	}
	resp, err := t.send(r, creds, hash)
	ambient, ok := t.opts.Credentials.(*Ambient)
	if err != nil || !ok || !isRefusal(resp) || !ambient.renew(creds) {
		return resp, err
	}
	fresh, err := t.credentials(r.Context())
	if err != nil || same(fresh, creds) {
		return resp, nil // there are no others
	}
	_ = resp.Body.Close() // nothing of it was done: it may be sent again
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = body
	}
	return t.send(r, fresh, hash)
}

// credentials returns those to sign with, or a fault.
func (t *Transport) credentials(ctx context.Context) (aws.Credentials, error) {
	creds, err := t.opts.Credentials.Retrieve(ctx)
	if err != nil && ctx.Err() != nil {
		return creds, context.Cause(ctx)
	}
	if err != nil {
		return creds, fault.Wrap(fault.UpstreamUnreachable, err, "no AWS credentials for the upstream")
	}
	return creds, nil
}

// send signs a copy of r and sends it.
func (t *Transport) send(r *http.Request, creds aws.Credentials, hash string) (*http.Response, error) {
	signed := r.WithContext(r.Context())
	signed.Header = r.Header.Clone()
	delete(signed.Header, "Authorization")
	if err := t.signer.SignHTTP(r.Context(), creds, signed, hash, t.opts.Service, t.opts.Region, time.Now()); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "internal error")
	}
	return t.next.RoundTrip(signed)
}

var errNoGetBody = errors.New("a request that is to be signed has a body that can be read only once")

// hashBody returns the hash of the body, which is read by way of GetBody and copied
// nowhere.
func hashBody(r *http.Request) (string, error) {
	h := sha256.New()
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return "", fault.Wrap(fault.Internal, errNoGetBody, "internal error")
		}
		body, err := r.GetBody()
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, body)
		if err := errors.Join(err, body.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// isRefusal reports whether AWS refuses the credentials for what they are, and not for what
// they may do.
func isRefusal(resp *http.Response) bool {
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
		return false
	}
	return RefusesCredentials(ErrorType(resp.Header))
}

// ErrorType returns the name of the error that an answer of AWS is, "" without one
// (Smithy, AWS restJson1 protocol, Operation error serialization).
func ErrorType(h http.Header) string {
	name, _, _ := strings.Cut(h.Get("X-Amzn-Errortype"), ":")
	if i := strings.LastIndexByte(name, '#'); i >= 0 {
		name = name[i+1:]
	}
	return name
}

// RefusesCredentials reports whether an error of that name says that credentials are
// unknown, broken or too old.
func RefusesCredentials(name string) bool {
	switch name {
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId",
		"InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "MissingAuthenticationTokenException":
		return true
	default:
		return false
	}
}
