package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of what services may answer.
const (
	serviceTimeout = 10 * time.Second
	maxReply       = 32 << 20 // bytes: a webhook gives the whole prompt back
)

// A Webhook is a service that sees texts and says whether they pass: as they are, masked, or
// not at all. It is immutable and safe for concurrent use.
type Webhook struct {
	// RoundTripper sends requests; it may replace scheme and host of their URLs.
	RoundTripper http.RoundTripper
	// Host is host:port of the service.
	Host string
	// Forward says which of the client's headers it gets.
	Forward []HeaderMatch
}

// A HeaderMatch matches a header by name and value.
type HeaderMatch struct {
	Name string // canonical
	// Value is what the value is, unless Pattern is set, which matches all of it.
	Value   string
	Pattern *regexp.Regexp
}

// NewHeaderPattern returns the match of a regular expression, which has to match the whole
// value.
func NewHeaderPattern(name, expression string) (HeaderMatch, error) {
	if _, err := regexp.Compile(expression); err != nil {
		return HeaderMatch{}, err
	}
	p, err := regexp.Compile(`^(?s:` + expression + `)$`)
	return HeaderMatch{Name: http.CanonicalHeaderKey(name), Pattern: p}, err
}

func (m *HeaderMatch) matches(value string) bool {
	if m.Pattern == nil {
		return m.Value == value
	}
	return m.Pattern.MatchString(value)
}

// A webhookMessage is a [Message] as the service reads it.
type webhookMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type webhookChoice struct {
	Message webhookMessage `json:"message"`
}

type webhookMessages struct {
	Messages []webhookMessage `json:"messages,omitzero"`
	Choices  []webhookChoice  `json:"choices,omitzero"`
}

type webhookRequest struct {
	Body webhookMessages `json:"body"`
}

// A webhookReply is what the service answers.
type webhookReply struct {
	Action *struct {
		Body   jsontext.Value `json:"body"`
		Status int            `json:"status_code"`
		Reason string         `json:"reason"`
	} `json:"action"`
}

// request shows the service a prompt.
func (h *Webhook) request(ctx context.Context, header http.Header, messages []Message) ([]Message, *Rejection, error) {
	var body webhookMessages
	for _, m := range messages {
		body.Messages = append(body.Messages, webhookMessage{m.Role, m.Text})
	}
	masked, no, err := h.ask(ctx, "/request", header, body)
	if err != nil || no != nil || masked == nil {
		return messages, no, err
	}
	return replaced(messages, masked.Messages)
}

// response shows the service an answer.
func (h *Webhook) response(ctx context.Context, header http.Header, messages []Message) ([]Message, *Rejection, error) {
	var body webhookMessages
	for _, m := range messages {
		body.Choices = append(body.Choices, webhookChoice{webhookMessage{m.Role, m.Text}})
	}
	masked, no, err := h.ask(ctx, "/response", header, body)
	if err != nil || no != nil || masked == nil {
		return messages, no, err
	}
	var list []webhookMessage
	for _, c := range masked.Choices {
		list = append(list, c.Message)
	}
	return replaced(messages, list)
}

// replaced returns the messages with the texts of the service.
func replaced(messages []Message, masked []webhookMessage) ([]Message, *Rejection, error) {
	if len(masked) != len(messages) {
		return nil, nil, unavailable("webhook", fmt.Errorf("it was shown %d messages and gave back %d", len(messages), len(masked)))
	}
	out := slices.Clone(messages)
	for i := range out {
		out[i].Text = masked[i].Content
	}
	return out, nil, nil
}

// ask asks the service. masked is nil when all passes as it is.
func (h *Webhook) ask(ctx context.Context, path string, header http.Header, body webhookMessages) (masked *webhookMessages, no *Rejection, err error) {
	out := http.Header{}
	for _, m := range h.Forward {
		for _, v := range header[m.Name] {
			if m.matches(v) && !slices.Contains(out[m.Name], v) {
				out[m.Name] = append(out[m.Name], v)
			}
		}
	}
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Accept-Encoding"} {
		delete(out, name)
	}
	var reply webhookReply
	if err := post(ctx, h.RoundTripper, "http", h.Host, path, out, webhookRequest{body}, &reply); err != nil {
		return nil, nil, unavailable("webhook", err)
	}
	a := reply.Action
	if a == nil {
		return nil, nil, unavailable("webhook", errors.New("its answer has no action"))
	}
	switch a.Body.Kind() {
	case '{':
		masked = &webhookMessages{}
		if err := json.Unmarshal(a.Body, masked); err != nil {
			return nil, nil, unavailable("webhook", err)
		}
		return masked, nil, nil
	case '"':
		no = &Rejection{By: "webhook", Status: a.Status}
		if err := json.Unmarshal(a.Body, &no.Message); err != nil {
			return nil, nil, unavailable("webhook", err)
		}
		if a.Status < 200 || a.Status > 599 {
			return nil, nil, unavailable("webhook", fmt.Errorf("its status_code is %d", a.Status))
		}
		return nil, no, nil
	case 0, 'n':
		return nil, nil, nil
	default:
		return nil, nil, unavailable("webhook", errors.New("the body of its action is neither messages nor a text"))
	}
}

// post sends JSON and reads the JSON that comes back.
func post(ctx context.Context, via http.RoundTripper, scheme, host, path string, header http.Header, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	header["Content-Type"] = []string{"application/json"}
	header["Accept"] = []string{"application/json"}
	r := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: scheme, Host: host, Path: path}, Host: host, Header: header,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	resp, err := via.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return err
	case len(reply) > maxReply:
		return fmt.Errorf("the answer is larger than %d MiB", maxReply>>20)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return json.Unmarshal(reply, out)
}
