package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// compileFilters compiles the filters of a rule into cr. A filter that is not served, or not
// there, makes the rule answer 500.
func (c *compiler) compileFilters(o object, path string, specs []gatewayv1.HTTPRouteFilter, cr *compiledRule) {
	rule := &cr.rule
	for i := range specs {
		spec := &specs[i]
		at := fmt.Sprintf("%s[%d]", path, i)
		switch spec.Type {
		case gatewayv1.HTTPRouteFilterRequestRedirect:
			if rule.redirect != nil || rule.direct != nil {
				c.incompatible(o, at, rule, "a rule ends in one RequestRedirect or DirectResponse, not two")
				continue
			}
			rule.redirect = c.compileRedirect(o, at+".requestRedirect", spec.RequestRedirect, cr)
		case gatewayv1.HTTPRouteFilterExtensionRef:
			if rule.redirect != nil || rule.direct != nil {
				c.incompatible(o, at, rule, "a rule ends in one RequestRedirect or DirectResponse, not two")
				continue
			}
			if rule.direct = c.compileDirect(o, at+".extensionRef", spec.ExtensionRef); rule.direct == nil {
				rule.fault = misconfigured
			}
		case gatewayv1.HTTPRouteFilterCORS:
			if rule.cors != nil {
				c.incompatible(o, at, rule, "a rule has one CORS filter, not two")
				continue
			}
			rule.cors = new(cors)
			if spec.CORS != nil {
				rule.cors = corsOf(spec.CORS)
			}
		default:
			if !c.compileFilter(o, at, spec, &rule.filters, cr) {
				rule.fault = misconfigured
			}
		}
	}
	if rule.redirect != nil && rule.filters.rewrite != nil {
		c.incompatible(o, path, rule, "URLRewrite and RequestRedirect exclude each other")
	}
}

func (c *compiler) incompatible(o object, path string, rule *rule, message string) {
	rule.fault = misconfigured
	c.add(o, path, finding{class: config.Invalid, code: config.CodeChoice, reason: "IncompatibleFilters"}, "%s", message)
}

// compileFilter compiles a filter that a rule and a backend reference can have into
// f, and reports whether it is served.
func (c *compiler) compileFilter(o object, path string, spec *gatewayv1.HTTPRouteFilter, f *filters, cr *compiledRule) bool {
	switch spec.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		m, ok := c.headerModifier(o, path+".requestHeaderModifier", spec.RequestHeaderModifier)
		f.request = append(f.request, m)
		return ok
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		m, ok := c.headerModifier(o, path+".responseHeaderModifier", spec.ResponseHeaderModifier)
		f.response = append(f.response, m)
		return ok
	case gatewayv1.HTTPRouteFilterURLRewrite:
		if f.rewrite != nil {
			c.add(o, path, finding{class: config.Invalid, code: config.CodeChoice, reason: "IncompatibleFilters"}, "there is more than one URLRewrite")
			return false
		}
		f.rewrite = new(rewrite)
		if spec.URLRewrite == nil {
			return true
		}
		if spec.URLRewrite.Hostname != nil {
			f.rewrite.hostname = string(*spec.URLRewrite.Hostname)
		}
		var ok bool
		f.rewrite.path, ok = c.pathChange(o, path+".urlRewrite.path", spec.URLRewrite.Path, cr)
		return ok
	case gatewayv1.HTTPRouteFilterRequestMirror:
		if m := c.mirror(o, path+".requestMirror", spec.RequestMirror); m != nil {
			f.mirrors = append(f.mirrors, m)
		}
		return true
	default:
		c.add(o, path+".type", finding{
			class: config.Unresolved, code: config.CodeUnserved, reason: "UnsupportedValue",
			help: "remove the filter: until then, what it is part of answers 500",
		}, "filters of type %s are not served here yet", spec.Type)
		return false
	}
}

// pathChange compiles a path modifier. A prefix can be replaced only where all
// matches of the rule are prefixes.
func (c *compiler) pathChange(o object, path string, spec *gatewayv1.HTTPPathModifier, cr *compiledRule) (pathChange, bool) {
	invalid := finding{class: config.Invalid, code: config.CodeInvalidValue, reason: "UnsupportedValue"}
	switch {
	case spec == nil:
		return pathChange{}, true
	case spec.Type == gatewayv1.FullPathHTTPPathModifier && spec.ReplaceFullPath != nil:
		value := *spec.ReplaceFullPath
		if value == "" || value[0] != '/' {
			value = "/" + value
		}
		return pathChange{full: true, value: value}, true
	case spec.Type == gatewayv1.PrefixMatchHTTPPathModifier && spec.ReplacePrefixMatch != nil:
		for i := range cr.matches {
			if cr.matches[i].pathType != pathPrefix {
				invalid.help = "use ReplaceFullPath, or PathPrefix matches"
				c.add(o, path+".type", invalid, "ReplacePrefixMatch needs matches of type PathPrefix only")
				return pathChange{}, false
			}
		}
		value := *spec.ReplacePrefixMatch
		if value != "" && value[0] != '/' {
			value = "/" + value
		}
		return pathChange{prefix: true, value: value}, true
	default:
		invalid.help = "set type to ReplaceFullPath or ReplacePrefixMatch, and the field of the same name"
		c.add(o, path, invalid, "the path modifier has no type with a value")
		return pathChange{}, false
	}
}

func (c *compiler) compileRedirect(o object, path string, spec *gatewayv1.HTTPRequestRedirectFilter, cr *compiledRule) *redirect {
	d := &redirect{status: http.StatusFound}
	if spec == nil {
		return d
	}
	if spec.Scheme != nil {
		d.scheme = *spec.Scheme
	}
	if spec.Hostname != nil {
		d.hostname = string(*spec.Hostname)
	}
	if spec.Port != nil {
		d.port = int(*spec.Port)
	}
	if spec.StatusCode != nil {
		d.status = *spec.StatusCode
	}
	if d.status < 300 || d.status > 399 {
		cr.rule.fault = misconfigured
		c.add(o, path+".statusCode", finding{class: config.Invalid, code: config.CodeChoice, reason: "UnsupportedValue", help: "use 301, 302, 303, 307 or 308"},
			"a redirect has a status of 3xx, not %d", d.status)
	}
	var ok bool
	if d.path, ok = c.pathChange(o, path+".path", spec.Path, cr); !ok {
		cr.rule.fault = misconfigured
	}
	return d
}

// compileDirect returns the DirectResponse that an ExtensionRef names, or nil.
func (c *compiler) compileDirect(o object, path string, ref *gatewayv1.LocalObjectReference) *directResponse {
	if ref == nil || ref.Group != v1alpha1.GroupName || ref.Kind != v1alpha1.KindDirectResponse {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnserved, reason: "IncompatibleFilters",
			help: "an ExtensionRef names a DirectResponse of group " + v1alpha1.GroupName,
		}, "the ExtensionRef names nothing that is served")
		return nil
	}
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(ref.Name)}
	spec := c.directs[name]
	if spec == nil {
		candidates := names(c.directs, name.Namespace)
		c.add(o, path+".name", finding{
			class: config.Unresolved, code: config.CodeUnresolvedExtension, reason: "BackendNotFound",
			help: didYouMean(name.Name, candidates, listing("DirectResponse in this namespace", candidates)),
		}, "DirectResponse %q is not there", name.Name)
		return nil
	}
	d := &directResponse{status: int(spec.Spec.Status), contentType: "text/plain"}
	if spec.Spec.Body != nil {
		d.body = *spec.Spec.Body
		var object map[string]json.RawMessage
		var array []json.RawMessage
		if json.Unmarshal([]byte(d.body), &object) == nil && object != nil || json.Unmarshal([]byte(d.body), &array) == nil && array != nil {
			d.contentType = "application/json"
		}
	}
	return d
}
