package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/telemetry"
)

// A lambdaEvent is a request as the function gets it (Envoy, AWS Lambda filter).
type lambdaEvent struct {
	RawPath string            `json:"raw_path"` // with the query
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
	Query   map[string]string `json:"query_string_parameters"`
	Body    string            `json:"body"`
	Base64  bool              `json:"is_base64_encoded"`
}

// wrapRequest returns the event that r with its body is. Header names are in lower case, and
// lines of one name are joined; names and values of the query are as they were written, the last of a name counts.
func wrapRequest(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	out := outgoing(r, "")
	telemetry.Propagate(ctx, out.Header)
	e := lambdaEvent{RawPath: r.URL.RequestURI(), Method: r.Method, Headers: make(map[string]string, len(out.Header)+1), Query: map[string]string{}}
	for name, values := range out.Header {
		if v := strings.Join(values, ","); v != "" || name != "User-Agent" {
			e.Headers[strings.ToLower(name)] = v
		}
	}
	e.Headers["host"] = r.Host
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if name, value, _ := strings.Cut(part, "="); name != "" {
			e.Query[name] = value
		}
	}
	if len(body) == 0 || isText(r.Header.Get("Content-Type")) && utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.Body, e.Base64 = base64.StdEncoding.EncodeToString(body), true
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&e); err != nil {
		return nil, fmt.Errorf("writing the event: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// isText reports whether a body of that type is written into the event as it is.
func isText(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return false
	case strings.HasPrefix(media, "text/"):
		return true
	default:
		return media == "application/json" || media == "application/xml" || media == "application/javascript"
	}
}

var errNoAnswer = errors.New("the result is neither null nor an object with statusCode, headers, cookies or body: return one, or set payloadTransformMode to None")

// unwrapResult returns the answer that a result stands for. Names are those of Envoy (status_code) or
// of Amazon API Gateway (statusCode).
func unwrapResult(result []byte) (*lambdaAnswer, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(result, &fields); err != nil && len(result) > 0 {
		return nil, errors.Join(errNoAnswer, err)
	}
	a := &lambdaAnswer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}}
	known := len(fields) == 0
	var text string
	var coded bool
	for _, f := range []struct {
		names [2]string
		read  func(json.RawMessage) error
	}{
		{[2]string{"status_code", "statusCode"}, a.readStatus},
		{[2]string{"headers", ""}, a.readHeaders},
		{[2]string{"multi_value_headers", "multiValueHeaders"}, a.readManyHeaders},
		{[2]string{"cookies", ""}, a.readCookies},
		{[2]string{"body", ""}, func(v json.RawMessage) error { return json.Unmarshal(v, &text) }},
		{[2]string{"is_base64_encoded", "isBase64Encoded"}, func(v json.RawMessage) error { return json.Unmarshal(v, &coded) }},
	} {
		for _, name := range f.names {
			v, ok := fields[name]
			if !ok || name == "" {
				continue
			}
			known = true
			if err := f.read(v); err != nil {
				return nil, fmt.Errorf("%s of the result: %w", name, err)
			}
		}
	}
	if !known {
		return nil, errNoAnswer
	}
	a.body = []byte(text)
	if coded {
		var err error
		if a.body, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("body of the result: %w", err)
		}
	}
	removeHop(a.header)
	delete(a.header, "Content-Length") // it is that of the body
	size := 0
	for name, values := range a.header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > maxResponseHeader {
		return nil, fmt.Errorf("the headers of the result are over the limit of %d bytes", maxResponseHeader)
	}
	return a, nil
}

// readStatus takes a number, or a text that is one.
func (a *lambdaAnswer) readStatus(v json.RawMessage) error {
	text := string(v)
	if json.Unmarshal(v, &text) != nil {
		text = string(v)
	}
	if text == "" || text == "null" || text == "0" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		return fmt.Errorf("%.20s is not a status of 200 to 599", text)
	}
	a.status = n
	return nil
}

func (a *lambdaAnswer) readHeaders(v json.RawMessage) error {
	var headers map[string]any
	if err := decodeNumbers(v, &headers); err != nil {
		return err
	}
	for name, value := range headers {
		if err := a.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (a *lambdaAnswer) readManyHeaders(v json.RawMessage) error {
	var headers map[string][]any
	if err := decodeNumbers(v, &headers); err != nil {
		return err
	}
	for name, values := range headers {
		if err := a.set(name, values...); err != nil {
			return err
		}
	}
	return nil
}

func (a *lambdaAnswer) readCookies(v json.RawMessage) error {
	var cookies []string
	if err := json.Unmarshal(v, &cookies); err != nil {
		return err
	}
	for _, c := range cookies {
		if !httpguts.ValidHeaderFieldValue(c) {
			return errors.New("a cookie can't be sent")
		}
		a.header["Set-Cookie"] = append(a.header["Set-Cookie"], c)
	}
	return nil
}

// set sets a header to values, each a text, a number or a boolean.
func (a *lambdaAnswer) set(name string, values ...any) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%.40q can't be sent as a header", name)
	}
	var lines []string
	for _, v := range values {
		var line string
		switch v := v.(type) {
		case string:
			line = v
		case json.Number:
			line = v.String()
		case bool:
			line = strconv.FormatBool(v)
		default:
			return fmt.Errorf("the value of the header %.40s is no text", name)
		}
		if !httpguts.ValidHeaderFieldValue(line) {
			return fmt.Errorf("the value of the header %.40s can't be sent", name)
		}
		lines = append(lines, line)
	}
	a.header[http.CanonicalHeaderKey(name)] = lines
	return nil
}

// decodeNumbers is json.Unmarshal that keeps numbers as they are written.
func decodeNumbers(v json.RawMessage, to any) error {
	dec := json.NewDecoder(bytes.NewReader(v))
	dec.UseNumber()
	return dec.Decode(to)
}
