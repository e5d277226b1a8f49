// Package testaws has what tests hold AWS's side against: the check of signatures, by the
// official signer, and that of the bodies of Bedrock's APIs, by the official schemas.
// [Bedrock] and [Lambda] are strict stand-ins made of them.
package testaws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Verify checks the signature of a request as AWS does, for a region and a service: what is
// signed, by whom, when, and that nothing was changed afterwards.
func Verify(r *http.Request, body []byte, service, region string, creds aws.Credentials) error {
	got := r.Header.Get("Authorization")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return fmt.Errorf("X-Amz-Date: %w", err)
	}
	_, list, ok := strings.Cut(got, "SignedHeaders=")
	if !ok {
		return fmt.Errorf("the request is not signed: Authorization is %q", got)
	}
	list, _, _ = strings.Cut(list, ",")
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return err
	}
	u.Scheme, u.Host = "https", r.Host
	again := &http.Request{Method: r.Method, URL: u, Host: r.Host, Header: http.Header{}}
	signed := map[string]bool{}
	for name := range strings.SplitSeq(list, ";") {
		signed[name] = true
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	if !signed["host"] || !signed["x-amz-date"] || creds.SessionToken != "" && !signed["x-amz-security-token"] {
		return fmt.Errorf("the signed headers are %s", list)
	}
	if creds.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		return errors.New("the session token is another one")
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, again, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		return err
	}
	if want := again.Header.Get("Authorization"); got != want {
		return fmt.Errorf("Authorization is\n%s, not\n%s", got, want)
	}
	return nil
}
