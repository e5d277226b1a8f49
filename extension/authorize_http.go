package extension

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An HTTPAuthorizer asks an HTTP service: it permits by 200, and any other answer but a 5xx goes to the client. It is not
// changed once it is used.
type HTTPAuthorizer struct {
	// RoundTripper reaches the service. It replaces scheme and host of the URL, and keeps Host.
	RoundTripper http.RoundTripper
	// PathPrefix stands before the path of the request.
	PathPrefix string
	// Timeout bounds a question with all of its tries; 0 is no bound.
	Timeout time.Duration
	Retry   Retry

	// Forward are headers of the request that the service gets beside Authorization, and Add those that it gets
	// beside them.
	Forward []string
	Add     map[string]string
	// ToBackend are headers of a permission that are set in the request, ToClient those that are set in
	// the answer to it. OnDenied are headers of a refusal that the client gets; nil is all.
	ToBackend, ToClient, OnDenied []string
}

// Authorize implements [Authorizer].
func (h *HTTPAuthorizer) Authorize(ctx context.Context, q *Question) (*Authorization, error) {
	if h.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.Timeout)
		defer cancel()
	}
	for n := 0; ; n++ {
		a, err := h.ask(ctx, q)
		if err == nil || errors.Is(err, errWrong) || n >= h.Retry.Attempts || !pause(ctx, h.Retry.wait(n)) {
			return a, err
		}
	}
}

// ask asks once.
func (h *HTTPAuthorizer) ask(ctx context.Context, q *Question) (*Authorization, error) {
	resp, err := h.RoundTripper.RoundTrip(h.request(ctx, q))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing more is read of it
	if resp.StatusCode >= 500 || resp.StatusCode < 200 {
		return nil, fmt.Errorf("the service answers with status %d", resp.StatusCode)
	}
	if resp.StatusCode == http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDeniedBody) // so that the connection can be used again
		return h.allowed(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDeniedBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxDeniedBody {
		return nil, wrongf("a refusal of more than %d bytes", maxDeniedBody)
	}
	out := &Authorization{Status: resp.StatusCode, Header: http.Header{}, Body: body}
	for name, values := range resp.Header {
		if changeable(name) && (h.OnDenied == nil || slices.Contains(h.OnDenied, name)) {
			out.Header[name] = values
		}
	}
	return out, nil
}

// request returns the question.
func (h *HTTPAuthorizer) request(ctx context.Context, q *Question) *http.Request {
	r := q.HTTP
	u := &url.URL{Path: h.PathPrefix + r.URL.Path, RawQuery: r.URL.RawQuery}
	if r.URL.RawPath != "" {
		u.RawPath = (&url.URL{Path: h.PathPrefix}).EscapedPath() + r.URL.RawPath
	}
	u.Scheme, u.Host = "http", r.Host
	out := (&http.Request{Method: r.Method, URL: u, Host: r.Host, Header: http.Header{}, Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if auth := r.Header["Authorization"]; auth != nil && !slices.Contains(q.Hidden, "Authorization") {
		out.Header["Authorization"] = auth
	}
	for _, name := range h.Forward {
		if values := r.Header[name]; values != nil && changeable(name) {
			out.Header[name] = values
		}
	}
	for name, value := range h.Add {
		out.Header[name] = []string{value}
	}
	if q.Body != nil {
		out.Header["X-Envoy-Auth-Partial-Body"] = []string{strconv.FormatBool(q.Partial)}
		out.ContentLength = int64(len(q.Body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.Body)), nil }
		out.Body, _ = out.GetBody() // it does not fail
	}
	return out
}

// allowed reads a permission.
func (h *HTTPAuthorizer) allowed(resp *http.Response) (*Authorization, error) {
	var request, response changes
	for _, name := range h.ToBackend {
		for i, value := range resp.Header[name] {
			action := Append
			if i == 0 {
				action = Overwrite
			}
			request.add(name, value, action)
		}
	}
	for _, list := range resp.Header["X-Envoy-Auth-Headers-To-Remove"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				request.add(name, "", Remove)
			}
		}
	}
	for _, name := range h.ToClient {
		for i, value := range resp.Header[name] {
			action := Append
			if i == 0 {
				action = Overwrite
			}
			response.add(name, value, action)
		}
	}
	return &Authorization{Allowed: true, Headers: request.list, Response: response.list}, errors.Join(request.wrong, response.wrong)
}

// NewHTTPAuthorizer returns a, with the names of headers in their canonical forms.
func NewHTTPAuthorizer(a HTTPAuthorizer) *HTTPAuthorizer {
	a.Forward, a.ToBackend, a.ToClient, a.OnDenied = canonical(a.Forward), canonical(a.ToBackend), canonical(a.ToClient), canonical(a.OnDenied)
	added := make(map[string]string, len(a.Add))
	for name, value := range a.Add {
		added[http.CanonicalHeaderKey(name)] = value
	}
	a.Add = added
	return &a
}
