package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/policy"
)

// transformationPart has requests and answers be changed by the values of expressions.
func (c *compiler) transformationPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.Transformation
	if s == nil {
		return nil, true
	}
	t := &transformation{source: o.String(), metrics: c.rt.metrics()}
	requests := c.transform(o, "spec.transformation.request", s.Request, &t.request, policy.CompileRequestTemplate)
	answers := c.transform(o, "spec.transformation.response", s.Response, &t.answer, policy.CompileAnswerTemplate)
	t.changesAnswer = t.answer.changes()
	for _, tr := range []*transform{&t.request, &t.answer} {
		for _, value := range tr.templates() {
			request, answer := value.SpeaksOfBody()
			t.requestBody = t.requestBody || request
			t.answerBody = t.answerBody || answer
		}
	}
	// A body that is exchanged has to be held, whatever is made of it.
	t.answerBody = t.answerBody || t.answer.body != nil
	return &webPart{attach: func(r *rule, _ *compiledRule) { r.interceptors = append(r.interceptors, t) }}, requests && answers
}

// templates returns the expressions of a transform.
func (t *transform) templates() (out []*policy.Template) {
	for _, h := range append(t.set[:len(t.set):len(t.set)], t.add...) {
		out = append(out, h.value)
	}
	if t.body != nil {
		out = append(out, t.body)
	}
	return out
}

// transform compiles the changes to one message; ok is false when they can't be made.
func (c *compiler) transform(o object, path string, spec *v1alpha1.Transform, t *transform, compile func(string) (*policy.Template, error)) (ok bool) {
	if spec == nil {
		return true
	}
	ok = true
	request := strings.HasSuffix(path, "request")
	headers := func(what string, in []v1alpha1.HeaderTransform) (out []templated) {
		for i, h := range in {
			at := fmt.Sprintf("%s.%s[%d]", path, what, i)
			if why := unchangeable(h.Name, request, what == "set"); why != "" {
				c.add(o, at+".name", finding{class: config.Invalid, code: config.CodeInvalidValue}, "%s", why)
				ok = false
			}
			value, err := compile(h.Value)
			if err != nil {
				c.addExpression(o, at+".value", err)
				ok = false
				continue
			}
			out = append(out, templated{http.CanonicalHeaderKey(h.Name), value})
		}
		return out
	}
	t.set, t.add = headers("set", spec.Set), headers("add", spec.Add)
	for i, name := range spec.Remove {
		if why := unchangeable(name, request, false); why != "" {
			c.add(o, fmt.Sprintf("%s.remove[%d]", path, i), finding{class: config.Invalid, code: config.CodeInvalidValue}, "%s", why)
			ok = false
		}
		t.remove = append(t.remove, http.CanonicalHeaderKey(name))
	}
	if b := spec.Body; b != nil {
		var err error
		if t.body, err = compile(b.Value); err != nil {
			c.addExpression(o, path+".body.value", err)
			ok = false
		}
		t.parsed = b.ParseAs == v1alpha1.BodyAsJSON
	}
	return ok
}

// unchangeable says why a header of a request or an answer can't be changed, "" if it can.
func unchangeable(name string, request, set bool) string {
	switch canonical := http.CanonicalHeaderKey(name); {
	case strings.HasPrefix(name, ":") && !request:
		return "an answer has no pseudo headers that can be changed"
	case strings.HasPrefix(name, ":") && !set:
		return "pseudo headers can be set, and not added or removed"
	case name == ":path", name == ":method", name == ":authority":
		return ""
	case strings.HasPrefix(name, ":"):
		return fmt.Sprintf("there is no pseudo header %s: set :path, :method or :authority", name)
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Sprintf("%q can't be sent as a header", name)
	case canonical == "Host":
		return "set :authority in place of Host"
	case strings.HasPrefix(canonical, internalPrefix) && request:
		return fmt.Sprintf("%s is a header of the gateway itself", name)
	}
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return fmt.Sprintf("%s belongs to the connection, and is not changed", name)
	}
	return ""
}
