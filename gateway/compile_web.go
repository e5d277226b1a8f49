package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
)

// A webPolicy is what a TrafficPolicy says of HTTP itself, by field.
type webPolicy map[string]webPart

// A webPart is what one field of a webPolicy comes to.
type webPart struct {
	// check is asked when a request is admitted, after authentication and before limits; nil asks nothing.
	check policy.Check
	// attach has a rule do what the field says, unless the rule says otherwise itself: written is
	// the rule as it stands in its route. nil leaves the rule as it is.
	attach func(r *rule, written *compiledRule)
}

// A webField is a field of TrafficPolicies that speaks of HTTP itself. It is merged as a whole.
type webField struct {
	name string
	// compile returns what the field of a policy comes to, if it is there; ok is false when it can't be used,
	// and then what the policy covers is broken.
	compile func(c *compiler, o object, spec *v1alpha1.TrafficPolicySpec) (part *webPart, ok bool)
}

// webFields returns the fields of a webPolicy, in the order in which they attach to a rule: of interceptors the first
// sees a request first.
func webFields() []webField {
	return []webField{
		{"extAuth", (*compiler).extAuthPart},
		{"cors", (*compiler).corsPart},
		{"csrf", (*compiler).csrfPart},
		{"headerModifiers", (*compiler).modifiersPart},
		{"buffer", (*compiler).bufferPart},
		{"extProc", (*compiler).extProcPart},
		{"transformation", (*compiler).transformationPart},
		{"timeouts", (*compiler).timeoutsPart},
		{"retry", (*compiler).retryPart},
		{"autoHostRewrite", (*compiler).autoHostPart},
	}
}

// web compiles what a TrafficPolicy says of HTTP; ok is false when it can't be used.
func (c *compiler) web(o object, spec *v1alpha1.TrafficPolicySpec) (w webPolicy, ok bool) {
	w, ok = webPolicy{}, true
	for _, f := range webFields() {
		part, sound := f.compile(c, o, spec)
		if part != nil {
			w[f.name] = *part
		}
		ok = ok && sound
	}
	return w, ok
}

// fields returns the names of the fields that a policy has.
func (w webPolicy) fields() (out []string) {
	for _, f := range webFields() {
		if _, ok := w[f.name]; ok {
			out = append(out, f.name)
		}
	}
	return out
}

// attachWeb has a rule do what the policies on it say of HTTP.
func (r *rule) attachWeb(w webPolicy, written *compiledRule) {
	for _, name := range w.fields() {
		if part := w[name]; part.attach != nil {
			part.attach(r, written)
		}
	}
}

func (c *compiler) corsPart(_ object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.CORS
	if s == nil {
		return nil, true
	}
	var shared *cors // nil: switched off
	if s.Disable == nil {
		shared = newCORS(s.AllowOrigins, s.AllowCredentials, s.AllowMethods, s.AllowHeaders, s.ExposeHeaders, s.MaxAge)
	}
	return &webPart{attach: func(r *rule, _ *compiledRule) {
		if r.cors == nil { // else the rule has a CORS filter
			r.cors = shared
		}
	}}, true
}

func (c *compiler) csrfPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	if spec.CSRF == nil {
		return nil, true
	}
	guard := newCSRF(o, spec.CSRF)
	guard.metrics = c.rt.metrics()
	return &webPart{attach: func(r *rule, _ *compiledRule) { r.csrf = guard }}, true
}

// modifiersPart puts the fixed changes of a policy to headers around those of the rule's filters.
func (c *compiler) modifiersPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.HeaderModifiers
	if s == nil {
		return nil, true
	}
	request, requests := c.headerModifier(o, "spec.headerModifiers.request", s.Request)
	response, responses := c.headerModifier(o, "spec.headerModifiers.response", s.Response)
	return &webPart{attach: func(r *rule, _ *compiledRule) {
		r.filters.request = append([]headerModifier{request}, r.filters.request...)
		r.filters.response = append(r.filters.response[:len(r.filters.response):len(r.filters.response)], response)
	}}, requests && responses
}

func (c *compiler) bufferPart(_ object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.Buffer
	if s == nil {
		return nil, true
	}
	var most int64 // 0: switched off
	if s.Disable == nil {
		size := resource.MustParse(s.MaxRequestSize) // validated
		most = size.Value()
	}
	return &webPart{attach: func(r *rule, _ *compiledRule) { r.buffer = most }}, true
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

// held returns r with its body in memory, of at most limit bytes. Nothing is sent on before all of it
// is there.
func held(w http.ResponseWriter, r *http.Request, limit int64) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	body, err := bodyWithin(w, r, limit)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(r.Context())
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return r, nil
}

// bodyWithin reads the body of r, of at most limit bytes.
func bodyWithin(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
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
	return body, nil
}
