package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/fault"
)

// A webPolicy is what a TrafficPolicy says of HTTP itself. A field that it does not have is nil.
type webPolicy struct {
	cors      **cors // nil inside: switched off
	csrf      *csrf
	modifiers *modifiers
	buffer    *int64 // 0: switched off
	timeout   *time.Duration
}

// modifiers are the fixed changes of a policy to headers.
type modifiers struct{ request, response headerModifier }

// The fields of a webPolicy, each merged as a whole.
const (
	corsField      = "cors"
	csrfField      = "csrf"
	modifiersField = "headerModifiers"
	bufferField    = "buffer"
	timeoutsField  = "timeouts"
)

// fields returns the names of the fields that a policy has.
func (w *webPolicy) fields() (out []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{{corsField, w.cors != nil}, {csrfField, w.csrf != nil}, {modifiersField, w.modifiers != nil}, {bufferField, w.buffer != nil}, {timeoutsField, w.timeout != nil}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

// take sets one field to that of another policy.
func (w *webPolicy) take(field string, of *webPolicy) {
	switch field {
	case corsField:
		w.cors = of.cors
	case csrfField:
		w.csrf = of.csrf
	case modifiersField:
		w.modifiers = of.modifiers
	case bufferField:
		w.buffer = of.buffer
	case timeoutsField:
		w.timeout = of.timeout
	}
}

// web compiles what a TrafficPolicy says of HTTP; ok is false when it can't be used.
func (c *compiler) web(o object, spec *v1alpha1.TrafficPolicySpec) (w webPolicy, ok bool) {
	ok = true
	if s := spec.CORS; s != nil {
		w.cors = new(*cors)
		if s.Disable == nil {
			*w.cors = newCORS(s.AllowOrigins, s.AllowCredentials, s.AllowMethods, s.AllowHeaders, s.ExposeHeaders, s.MaxAge)
		}
	}
	if s := spec.CSRF; s != nil {
		w.csrf = newCSRF(o, s)
		w.csrf.metrics = c.rt.metrics()
	}
	if s := spec.HeaderModifiers; s != nil {
		w.modifiers = new(modifiers)
		var requests, responses bool
		w.modifiers.request, requests = c.headerModifier(o, "spec.headerModifiers.request", s.Request)
		w.modifiers.response, responses = c.headerModifier(o, "spec.headerModifiers.response", s.Response)
		ok = requests && responses
	}
	if s := spec.Buffer; s != nil {
		w.buffer = new(int64)
		if s.Disable == nil {
			size := resource.MustParse(s.MaxRequestSize) // validated
			*w.buffer = size.Value()
		}
	}
	if s := spec.Timeouts; s != nil && s.Request != "" {
		w.timeout = new(s.Request.Value())
	}
	return w, ok
}

// newCORS returns what the fields of a policy or of a CORS filter say; they are the same.
func newCORS[O, M, H ~string](origins []O, credentials *bool, methods []M, headers, expose []H, maxAge int32) *cors {
	c := &cors{credentials: credentials != nil && *credentials, maxAge: 5}
	for _, o := range origins {
		c.origins = append(c.origins, newCORSOrigin(string(o)))
		c.any = c.any || string(o) == "*" && !c.credentials
	}
	for _, m := range methods {
		c.methods = append(c.methods, string(m))
	}
	for _, h := range headers {
		c.headers = append(c.headers, string(h))
	}
	var names []string
	for _, h := range expose {
		names = append(names, string(h))
	}
	c.expose = strings.Join(names, ", ")
	if maxAge > 0 {
		c.maxAge = int(maxAge)
	}
	return c
}

func corsOf(f *gatewayv1.HTTPCORSFilter) *cors {
	return newCORS(f.AllowOrigins, f.AllowCredentials, f.AllowMethods, f.AllowHeaders, f.ExposeHeaders, f.MaxAge)
}

func newCSRF(o object, s *v1alpha1.CSRFPolicy) *csrf {
	c := &csrf{source: o.String(), percent: or(s.PercentageEnabled, 100)}
	if s.PercentageShadowed != nil {
		c.percent, c.shadow = int(*s.PercentageShadowed), true
	}
	for _, m := range s.AdditionalOrigins {
		out := stringMatch{fold: m.IgnoreCase}
		switch {
		case m.SafeRegex != "":
			prefix := ""
			if m.IgnoreCase {
				prefix = "(?i)"
			}
			out.regex = regexp.MustCompile(prefix + `^(?:` + m.SafeRegex + `)$`) // validated
		case m.Exact != "":
			out.how, out.value = func(s, v string) bool { return s == v }, m.Exact
		case m.Prefix != "":
			out.how, out.value = strings.HasPrefix, m.Prefix
		case m.Suffix != "":
			out.how, out.value = strings.HasSuffix, m.Suffix
		default:
			out.how, out.value = strings.Contains, m.Contains
		}
		if m.IgnoreCase {
			out.value = strings.ToLower(out.value)
		}
		c.origins = append(c.origins, out)
	}
	return c
}

// attachWeb has a rule do what the policies on it say of HTTP, unless it says otherwise itself.
func (r *rule) attachWeb(w *webPolicy, timed bool) {
	if r.cors == nil && w.cors != nil {
		r.cors = *w.cors
	}
	r.csrf = w.csrf
	if m := w.modifiers; m != nil {
		r.filters.request = append([]headerModifier{m.request}, r.filters.request...)
		r.filters.response = append(r.filters.response[:len(r.filters.response):len(r.filters.response)], m.response)
	}
	if w.buffer != nil {
		r.buffer = *w.buffer
	}
	if w.timeout != nil && !timed {
		r.timeout = *w.timeout
	}
}

// held returns r with its body in memory, of at most limit bytes. Nothing is sent on before all of it
// is there.
func held(w http.ResponseWriter, r *http.Request, limit int64) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	if r.ContentLength > limit {
		return nil, fault.New(fault.TooLarge, "the request body is over the limit of %d bytes", limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	var f *fault.Fault
	switch {
	case errors.As(err, &tooLarge):
		return nil, fault.New(fault.TooLarge, "the request body is over the limit of %d bytes", limit)
	case errors.As(err, &f):
		return nil, f
	case err != nil:
		return nil, fault.Wrap(fault.BadRequest, err, "the request body could not be read")
	}
	r = r.WithContext(r.Context())
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return r, nil
}
