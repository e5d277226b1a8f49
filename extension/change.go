package extension

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/net/http/httpguts"
)

// Limits on what one answer of a service may change.
const (
	maxChanges      = 128
	maxChangeBytes  = 64 << 10
	internalPrefix  = "X-Mcpgw-"
	maxDeniedBody   = 1 << 20
	defaultDenied   = http.StatusForbidden
	textContentType = "text/plain"
)

// An Action says what a [HeaderChange] does.
type Action uint8

// The actions.
const (
	Append             Action = iota // adds a value
	AddIfAbsent                      // sets the value of a header that is not there
	Overwrite                        // sets the value in place of all that are there
	OverwriteIfPresent               // does so if there are some
	Remove                           // takes the header away
)

// A HeaderChange is one change of a header. Its name is canonical, name and value are such as HTTP permits, and it is
// none that only the gateway sets.
type HeaderChange struct {
	Name   string `json:"n"`
	Value  string `json:"v,omitempty"`
	Action Action `json:"a,omitempty"`
}

// ApplyTo applies the change.
func (c *HeaderChange) ApplyTo(h http.Header) {
	there := len(h[c.Name]) > 0
	switch {
	case c.Action == Remove:
		delete(h, c.Name)
	case c.Action == Append:
		h[c.Name] = append(slices.Clip(h[c.Name]), c.Value)
	case c.Action == Overwrite, there == (c.Action == OverwriteIfPresent):
		h[c.Name] = []string{c.Value}
	}
}

// A QueryChange sets a parameter of the query, or removes it.
type QueryChange struct {
	Key    string `json:"k"`
	Value  string `json:"v,omitempty"`
	Remove bool   `json:"r,omitempty"`
}

// ChangeQuery returns a raw query as the changes have it; what they do not speak of stays as it is written.
func ChangeQuery(raw string, changes []QueryChange) string {
	for _, c := range changes {
		var kept []string
		for part := range strings.SplitSeq(raw, "&") {
			key, _, _ := strings.Cut(part, "=")
			if name, err := url.QueryUnescape(key); part != "" && (err != nil || name != c.Key) {
				kept = append(kept, part)
			}
		}
		if !c.Remove {
			kept = append(kept, url.QueryEscape(c.Key)+"="+url.QueryEscape(c.Value))
		}
		raw = strings.Join(kept, "&")
	}
	return raw
}

// changeable reports whether services may change a header: none that frames the message or belongs to the connection, not
// Host, and none that only the gateway sets.
func changeable(canonical string) bool {
	switch canonical {
	case "", "Host", "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect":
		return false
	}
	return canonical[0] != ':' && !strings.HasPrefix(http.CanonicalHeaderKey(strings.ReplaceAll(canonical, "_", "-")), internalPrefix)
}

// changes collects the header changes of one answer, within limits.
type changes struct {
	list  []HeaderChange
	bytes int
	wrong error // the first mistake
}

// add adds a change, unless the header is none that services may change.
func (c *changes) add(name, value string, action Action) {
	canonical := http.CanonicalHeaderKey(name)
	if !changeable(canonical) {
		return
	}
	switch c.bytes += len(name) + len(value); {
	case c.wrong != nil:
	case !httpguts.ValidHeaderFieldName(name):
		c.wrong = wrongf("a header name that HTTP does not permit")
	case !httpguts.ValidHeaderFieldValue(value):
		c.wrong = wrongf("a value of the header %s that HTTP does not permit", canonical)
	case len(c.list) == maxChanges || c.bytes > maxChangeBytes:
		c.wrong = wrongf("more than %d changes of headers, or %d bytes of them", maxChanges, maxChangeBytes)
	default:
		c.list = append(c.list, HeaderChange{Name: canonical, Value: strings.Trim(value, " \t"), Action: action})
	}
}

// addOptions adds what a service says in Envoy's form. Where it says nothing of what to do with a header that is there,
// otherwise says it.
func (c *changes) addOptions(options []*corev3.HeaderValueOption, otherwise Action) {
	for _, o := range options {
		action := otherwise
		switch set := o.GetAppend(); { //nolint:staticcheck // services still say it
		case set != nil && set.GetValue():
			action = Append
		case set != nil:
			action = Overwrite
		case o.GetAppendAction() == corev3.HeaderValueOption_ADD_IF_ABSENT:
			action = AddIfAbsent
		case o.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			action = Overwrite
		case o.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
			action = OverwriteIfPresent
		}
		h := o.GetHeader()
		if value := valueOf(h); value != "" || o.GetKeepEmptyValue() || action != Append {
			c.add(h.GetKey(), value, action)
		}
	}
}

// valueOf returns the value of a header, which stands in either of two fields.
func valueOf(h *corev3.HeaderValue) string {
	if h.GetValue() != "" {
		return h.GetValue()
	}
	return string(h.GetRawValue())
}
