package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// What is wrong between the fields of an object.

func listeners(c *checker, path string, m map[string]any) {
	l, _ := m["listeners"].([]any)
	seen := map[string]int{}
	for i := range l {
		item, _ := l[i].(map[string]any)
		if item == nil || item["port"] == nil || item["protocol"] == nil {
			continue
		}
		key := fmt.Sprint(item["port"], item["protocol"], item["hostname"])
		if j, twice := seen[key]; twice {
			c.add(CodeDuplicateItem, index(path+".listeners", i), "two listeners have the same port, protocol and hostname").Help =
				fmt.Sprintf("listeners[%d] has them already", j)
		}
		seen[key] = i
	}
}

func listener(c *checker, path string, m map[string]any) {
	tls, _ := m["tls"].(map[string]any)
	switch protocol := m["protocol"]; {
	case tls != nil && (protocol == "HTTP" || protocol == "TCP" || protocol == "UDP"):
		c.add(CodeChoice, path+".tls", "a listener of protocol %s has no `tls`", protocol).onKey = true
	case tls == nil && protocol == "HTTPS":
		c.add(CodeRequired, path+".tls", "a listener of protocol HTTPS needs `tls` with certificateRefs").onKey = true
	case tls != nil && protocol == "HTTPS" && tls["mode"] == "Passthrough":
		c.add(CodeChoice, path+".tls.mode", "`mode` must be Terminate for protocol HTTPS")
	}
	if m["hostname"] != nil && (m["protocol"] == "TCP" || m["protocol"] == "UDP") {
		c.add(CodeChoice, path+".hostname", "a listener of protocol %s has no `hostname`", m["protocol"]).onKey = true
	}
}

func listenerTLS(c *checker, path string, m map[string]any) {
	certs, _ := m["certificateRefs"].([]any)
	if m["mode"] == "Terminate" && len(certs) == 0 && m["options"] == nil {
		c.add(CodeRequired, path+".certificateRefs", "`certificateRefs` is missing: the Secret with tls.crt and tls.key").onKey = true
	}
}

func routeNamespaces(c *checker, path string, m map[string]any) {
	if m["from"] == "Selector" && m["selector"] == nil {
		c.add(CodeRequired, path+".selector", "`from: Selector` needs `selector`").onKey = true
	}
	if m["from"] != "Selector" && m["selector"] != nil {
		c.add(CodeChoice, path+".selector", "`selector` has an effect with `from: Selector` only").onKey = true
	}
}

func backendRef(c *checker, path string, m map[string]any) {
	if m["kind"] == "Service" && m["group"] == "" && m["name"] != nil && m["port"] == nil {
		c.add(CodeRequired, path+".port", "`port` is missing: a reference to a Service needs one").onKey = true
	}
	if w, ok := m["weight"].(int64); ok && (w < 0 || w > 1_000_000) {
		c.add(CodeInvalidValue, path+".weight", "`weight` must be between 0 and 1000000")
		delete(m, "weight")
	}
}

func headerValue(c *checker, path string, m map[string]any) {
	if v, ok := m["value"].(string); ok && (len(v) > 4096 || !httpguts.ValidHeaderFieldValue(v)) {
		c.add(CodeInvalidValue, path+".value", "`value` must be a header value: at most 4096 bytes, without line breaks")
	}
}

var pathCharacters = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$`)

func pathMatch(c *checker, path string, m map[string]any) {
	v, ok := m["value"].(string)
	if !ok {
		return
	}
	if m["type"] == "RegularExpression" {
		c.regexp(path+".value", v)
		return
	}
	wrong := ""
	switch {
	case utf8.RuneCountInString(v) > 1024:
		wrong = "may have at most 1024 characters"
	case !strings.HasPrefix(v, "/"):
		wrong = "must begin with /"
	case strings.Contains(v, "//"):
		wrong = "must not contain //"
	case strings.Contains(v, "/./") || strings.Contains(v, "/../") || strings.HasSuffix(v, "/.") || strings.HasSuffix(v, "/.."):
		wrong = "must not have . or .. as a part"
	case strings.Contains(strings.ToLower(v), "%2f"):
		wrong = "must not contain an encoded slash"
	case strings.ContainsAny(v, "?#"):
		wrong = "must be a path alone, without query and fragment"
	case !pathCharacters.MatchString(v):
		wrong = "has characters that can't stand in a path: use type RegularExpression for an expression, and % codes for others"
	}
	if wrong != "" {
		c.add(CodeInvalidValue, path+".value", "`value` %s", wrong)
	}
}

// regexpValue returns a check of the field that is an expression if type says so.
func regexpValue(field string) func(*checker, string, map[string]any) {
	return func(c *checker, path string, m map[string]any) {
		if v, ok := m[field].(string); ok && m["type"] == "RegularExpression" {
			c.regexp(path+"."+field, v)
		}
	}
}

// regexp reports an expression that does not compile, at the part that is wrong.
func (c *checker) regexp(path, expr string) {
	_, err := regexp.Compile(expr)
	if err == nil && len(expr) <= 4096 {
		return
	}
	f := c.add(CodeRegexp, path, "`%s` is not a regular expression", last(path))
	if err == nil {
		f.Label = "longer than 4096 bytes"
		return
	}
	var parse *syntax.Error
	if !errors.As(err, &parse) {
		return
	}
	f.Label = string(parse.Code)
	if i := strings.Index(expr, parse.Expr); parse.Expr != "" && i > 0 {
		f.offset = utf8.RuneCountInString(expr[:i]) + 1
	}
	if parse.Code == syntax.ErrInvalidPerlOp {
		f.Help = "expressions are those of RE2, which has no look-around: write it another way"
	}
}

func grpcMethod(c *checker, path string, m map[string]any) {
	if m["service"] == nil && m["method"] == nil {
		c.add(CodeRequired, path+".service", "one of `service` and `method` must be there").onKey = true
	}
	regexpValue("service")(c, path, m)
	regexpValue("method")(c, path, m)
}

func timeouts(c *checker, path string, m map[string]any) {
	request, err1 := time.ParseDuration(fmt.Sprint(m["request"]))
	backend, err2 := time.ParseDuration(fmt.Sprint(m["backendRequest"]))
	if err1 == nil && err2 == nil && request > 0 && backend > request {
		c.add(CodeInvalidValue, path+".backendRequest", "`backendRequest` must not be longer than `request`")
	}
}

func httpRule(c *checker, path string, m map[string]any) {
	filters, _ := m["filters"].([]any)
	backends, _ := m["backendRefs"].([]any)
	first := map[any]int{}
	for i := range filters {
		f, _ := filters[i].(map[string]any)
		if f == nil || f["type"] == nil {
			continue
		}
		at := index(path+".filters", i)
		j, twice := first[f["type"]]
		first[f["type"]] = i
		switch t := f["type"]; {
		case twice && (t == "RequestRedirect" || t == "URLRewrite" || t == "CORS"):
			c.add(CodeDuplicateItem, at+".type", "a rule can have one filter of type %s", t).Help = fmt.Sprintf("filters[%d] is one already", j)
		case t == "RequestRedirect" && len(backends) > 0:
			c.add(CodeChoice, at+".type", "a rule that redirects has no backendRefs").Help = "remove the filter or the backendRefs"
		}
		for _, field := range []string{"requestRedirect", "urlRewrite"} {
			replacesPrefix(c, at, field, f, m)
		}
	}
	if i, both := first["URLRewrite"]; both {
		if _, both := first["RequestRedirect"]; both {
			c.add(CodeChoice, index(path+".filters", i)+".type", "a rule can't have both URLRewrite and RequestRedirect")
		}
	}
}

// replacesPrefix reports a filter that replaces a prefix where the rule has none.
func replacesPrefix(c *checker, at, field string, f, rule map[string]any) {
	block, _ := f[field].(map[string]any)
	modifier, _ := block["path"].(map[string]any)
	if modifier == nil || modifier["type"] != "ReplacePrefixMatch" {
		return
	}
	matches, _ := rule["matches"].([]any)
	ok := len(matches) == 1
	for i := range matches {
		match, _ := matches[i].(map[string]any)
		path, _ := match["path"].(map[string]any)
		ok = ok && path["type"] == "PathPrefix"
	}
	if !ok {
		c.add(CodeChoice, child(at, field)+".path.type", "ReplacePrefixMatch needs a rule with exactly one match, of path type PathPrefix")
	}
}

// filterBlocks are the fields of a filter, by its type.
func filterBlocks() map[string]string {
	return map[string]string{
		"RequestHeaderModifier": "requestHeaderModifier", "ResponseHeaderModifier": "responseHeaderModifier", "RequestMirror": "requestMirror",
		"RequestRedirect": "requestRedirect", "URLRewrite": "urlRewrite", "CORS": "cors", "ExternalAuth": "externalAuth", "ExtensionRef": "extensionRef",
	}
}

func filter(c *checker, path string, m map[string]any) {
	t, ok := m["type"].(string)
	want, known := filterBlocks()[t]
	if !ok || !known {
		return
	}
	if m[want] == nil {
		c.add(CodeRequired, child(path, want), "a filter of type %s needs `%s`", t, want).onKey = true
	}
	for _, block := range slices.Sorted(maps.Values(filterBlocks())) {
		if block != want && m[block] != nil {
			c.add(CodeChoice, child(path, block), "a filter of type %s can't have `%s`", t, block).onKey = true
		}
	}
}

func redirect(c *checker, path string, m map[string]any) {
	if s, ok := m["scheme"].(string); ok && s != "http" && s != "https" {
		c.add(CodeEnum, path+".scheme", "`scheme` must be one of http, https")
	}
	if code, ok := m["statusCode"].(int64); ok && !slices.Contains([]int64{301, 302, 303, 307, 308}, code) {
		c.add(CodeEnum, path+".statusCode", "`statusCode` must be one of 301, 302, 303, 307, 308")
	}
}

func pathModifier(c *checker, path string, m map[string]any) {
	blocks := map[any]string{"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
	want := blocks[m["type"]]
	if want == "" {
		return
	}
	if m[want] == nil {
		c.add(CodeRequired, child(path, want), "type %s needs `%s`", m["type"], want).onKey = true
	}
	for _, block := range blocks {
		if block != want && m[block] != nil {
			c.add(CodeChoice, child(path, block), "type %s can't have `%s`", m["type"], block).onKey = true
		}
	}
}

func mirror(c *checker, path string, m map[string]any) {
	if m["percent"] != nil && m["fraction"] != nil {
		c.add(CodeChoice, path+".fraction", "only one of `percent` and `fraction` may be set").onKey = true
	}
	if p, ok := m["percent"].(int64); ok && (p < 0 || p > 100) {
		c.add(CodeInvalidValue, path+".percent", "`percent` must be between 0 and 100")
	}
}

func backendTLS(c *checker, path string, m map[string]any) {
	refs, _ := m["caCertificateRefs"].([]any)
	switch {
	case len(refs) > 0 && m["wellKnownCACertificates"] != nil:
		c.add(CodeChoice, path+".wellKnownCACertificates", "only one of `caCertificateRefs` and `wellKnownCACertificates` may be set").onKey = true
	case len(refs) == 0 && m["wellKnownCACertificates"] == nil:
		c.add(CodeRequired, path+".caCertificateRefs", "one of `caCertificateRefs` and `wellKnownCACertificates` must be there").onKey = true
	}
}

func service(c *checker, path string, m map[string]any) {
	ports, _ := m["ports"].([]any)
	switch {
	case m["type"] == "ExternalName" && m["externalName"] == nil:
		c.add(CodeRequired, path+".externalName", "`type: ExternalName` needs `externalName`").onKey = true
	case m["type"] != "ExternalName" && len(ports) == 0 && m["clusterIP"] != "None":
		c.add(CodeRequired, path+".ports", "`ports` is missing: a Service needs at least one port").onKey = true
	}
	for i := range ports {
		if p, _ := ports[i].(map[string]any); len(ports) > 1 && p != nil && p["name"] == nil {
			c.add(CodeRequired, index(path+".ports", i)+".name", "`name` is missing: the ports of a Service with several need names").onKey = true
		}
	}
}

func servicePort(c *checker, path string, m map[string]any) {
	if m["targetPort"] == nil && m["port"] != nil {
		m["targetPort"] = m["port"]
	}
}
