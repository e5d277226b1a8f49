package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Limits of the Lambda API on events and results, in bytes (AWS Lambda quotas).
const (
	maxLambdaSync   = 6 << 20
	maxLambdaAsync  = 1 << 20
	maxLambdaResult = 6 << 20
	// maxLambdaError bounds how much is read of what says why there is no result.
	maxLambdaError = 64 << 10
)

// A Lambda answers requests with the results of an AWS Lambda function (AWS Lambda API
// reference, Invoke). It is safe for concurrent use.
type Lambda struct {
	// RoundTripper reaches the Lambda API, and signs what it sends there.
	RoundTripper http.RoundTripper
	// URL is where the function is invoked, see [LambdaURL].
	URL *url.URL
	// Async answers 202 as soon as the event is queued.
	Async bool
	// Raw takes the body for the event, and answers with the result as it is. Otherwise both are
	// wrapped in JSON, in the form that Envoy gives them.
	Raw bool
}

// LambdaURL returns where the Lambda API at endpoint invokes a version or alias of the function
// of that ARN, which has no qualifier itself.
func LambdaURL(endpoint *url.URL, arn, qualifier string) *url.URL {
	const functions, invocations = "/2015-03-31/functions/", "/invocations"
	u := *endpoint
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + functions + url.QueryEscape(arn) + invocations // as the AWS SDKs write it
	u.Path = strings.TrimSuffix(u.Path, "/") + functions + arn + invocations
	u.RawQuery = url.Values{"Qualifier": {qualifier}}.Encode()
	return &u
}

// Serve answers r with what the function makes of it.
func (l *Lambda) Serve(w http.ResponseWriter, r *http.Request) error {
	rec := telemetry.FromContext(r.Context())
	ctx, call := telemetry.StartCall(r.Context(), "Invoke")
	event, err := l.event(ctx, r)
	if err != nil {
		call.End(fault.Of(err).Code.String())
		return err
	}
	var pin Pin
	resp, err := l.RoundTripper.RoundTrip(l.invocation(WithPin(ctx, &pin), event))
	rec.Attempts++
	rec.UpstreamHost = pin.Endpoint
	endCall(call, pin.Endpoint, resp, err)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // everything that can be learned from it was learned by reading
	if err := l.invoked(resp); err != nil {
		return err
	}
	if l.Async {
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	result, err := readResult(resp)
	if err != nil {
		return err
	}
	a := &lambdaAnswer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: result}
	if !l.Raw {
		if a, err = unwrapResult(result); err != nil {
			return fault.Wrap(fault.UpstreamFailed, err, "the function's result is not an answer")
		}
	}
	return a.write(w, r.Method)
}

// WriteError renders err as plain text.
func (l *Lambda) WriteError(w http.ResponseWriter, _ *http.Request, err error) {
	fault.Of(err).WriteText(w)
}

// event returns the event that r is for the function.
func (l *Lambda) event(ctx context.Context, r *http.Request) ([]byte, error) {
	most := int64(maxLambdaSync)
	if l.Async {
		most = maxLambdaAsync
	}
	tooLarge := fault.New(fault.TooLarge, "the request is over the limit of %d bytes for the function", most)
	if r.ContentLength > most {
		return nil, tooLarge
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, most+1)); err != nil {
			return nil, ofClient(err)
		}
	}
	if int64(len(body)) > most {
		return nil, tooLarge
	}
	if l.Raw {
		return body, nil
	}
	event, err := wrapRequest(ctx, r, body)
	switch {
	case err != nil:
		return nil, err
	case int64(len(event)) > most:
		return nil, tooLarge
	default:
		return event, nil
	}
}

// invocation returns the request that invokes the function.
func (l *Lambda) invocation(ctx context.Context, event []byte) *http.Request {
	kind := "RequestResponse"
	if l.Async {
		kind = "Event"
	}
	r := (&http.Request{
		Method: http.MethodPost, URL: l.URL, Host: l.URL.Host, ContentLength: int64(len(event)),
		Header: http.Header{"Content-Type": {"application/json"}, "X-Amz-Invocation-Type": {kind}, "User-Agent": {"mcpgw"}},
	}).WithContext(ctx)
	if len(event) > 0 {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(event)), nil }
		r.Body, _ = r.GetBody() // it does not fail
	}
	return r
}

// invoked returns nil when resp is the answer of a function that ran, or was queued. What went
// wrong inside is the operator's to know: the client reads only whose mistake it is.
func (l *Lambda) invoked(resp *http.Response) error {
	failed := resp.Header.Get("X-Amz-Function-Error")
	if resp.StatusCode/100 == 2 && failed == "" {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxLambdaError)) // it explains what is known already
	var why struct {
		Type    string `json:"errorType"`
		Text    string `json:"errorMessage"`
		Message string
	}
	_ = json.Unmarshal(body, &why) // likewise
	switch {
	case failed != "":
		return fault.Wrap(fault.UpstreamFailed, fmt.Errorf("%s error of the function: %s: %s", clipped(failed), clipped(why.Type), clipped(why.Text)), "the function failed")
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.TooLarge, errors.New(clipped(why.Message)), "the request is too large for the function")
	}
	typ := resp.Header.Get("X-Amzn-Errortype")
	err := fmt.Errorf("AWS Lambda answered %d %s: %s", resp.StatusCode, clipped(typ), clipped(why.Message))
	if l.Raw && resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(typ, "InvalidRequestContent") {
		return fault.Wrap(fault.BadRequest, err, "the request body is not JSON, which the function takes")
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		f := fault.Wrap(fault.UpstreamUnreachable, err, "the function is busy")
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // without one, a second
		f.RetryAfter = time.Duration(min(max(seconds, 1), 300)) * time.Second
		return f
	}
	return fault.Wrap(fault.UpstreamFailed, err, "the function could not be invoked")
}

// clipped returns s as far as it fits into a line of a log.
func clipped(s string) string { return s[:min(len(s), 512)] }

var errResultTooLarge = errors.New("the result is over the limit of the Lambda API")

func readResult(resp *http.Response) ([]byte, error) {
	result, err := io.ReadAll(io.LimitReader(resp.Body, maxLambdaResult+1))
	if err != nil {
		return nil, err
	}
	if len(result) > maxLambdaResult {
		return nil, fault.Wrap(fault.UpstreamFailed, errResultTooLarge, "the function's result is too large")
	}
	return result, nil
}

// A lambdaAnswer is what a result of a function stands for.
type lambdaAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (a *lambdaAnswer) write(w http.ResponseWriter, method string) error {
	header := w.Header()
	for name, values := range a.header {
		header[name] = slices.Clone(values)
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	} else {
		a.body = nil
	}
	w.WriteHeader(a.status)
	if len(a.body) == 0 || method == http.MethodHead {
		return nil
	}
	if _, err := w.Write(a.body); err != nil {
		return gone(err)
	}
	return nil
}
