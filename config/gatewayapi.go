package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// kubernetesRules returns what the types of the Gateway API, and those of
// Kubernetes that mcpgw reads, permit: as in the custom resource definitions of
// Gateway API v1.6 and the validation of the API server.
func kubernetesRules() map[reflect.Type]rule {
	rules := map[reflect.Type]rule{
		// Words and numbers.
		reflect.TypeFor[gatewayv1.ObjectName]():             {check: name},
		reflect.TypeFor[gatewayv1.Namespace]():              {check: label},
		reflect.TypeFor[gatewayv1.SectionName]():            {check: name},
		reflect.TypeFor[gatewayv1.Hostname]():               {check: hostname},
		reflect.TypeFor[gatewayv1.PreciseHostname]():        {check: preciseHostname},
		reflect.TypeFor[gatewayv1.Group]():                  {check: group},
		reflect.TypeFor[gatewayv1.Kind]():                   {check: kindName},
		reflect.TypeFor[gatewayv1.Duration]():               {check: duration},
		reflect.TypeFor[gatewayv1.HTTPHeaderName]():         {check: headerName},
		reflect.TypeFor[gatewayv1.HeaderName]():             {check: headerName},
		reflect.TypeFor[gatewayv1.GatewayController]():      {check: controllerName},
		reflect.TypeFor[gatewayv1.ProtocolType]():           {check: protocol},
		reflect.TypeFor[gatewayv1.CORSOrigin]():             {check: corsOrigin},
		reflect.TypeFor[gatewayv1.HTTPMethod]():             {enum: methods()},
		reflect.TypeFor[gatewayv1.HTTPMethodWithWildcard](): {enum: append(methods(), "*")},
		reflect.TypeFor[gatewayv1.PathMatchType]():          {enum: []string{"Exact", "PathPrefix", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.HeaderMatchType]():        {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.QueryParamMatchType]():    {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.GRPCMethodMatchType]():    {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.FromNamespaces]():         {enum: []string{"All", "Selector", "Same", "None"}},
		reflect.TypeFor[gatewayv1.TLSModeType]():            {enum: []string{"Terminate", "Passthrough"}},
		reflect.TypeFor[gatewayv1.HTTPPathModifierType]():   {enum: []string{"ReplaceFullPath", "ReplacePrefixMatch"}},
		reflect.TypeFor[gatewayv1.HTTPRouteFilterType](): {enum: []string{
			"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS", "ExternalAuth", "ExtensionRef",
		}},
		reflect.TypeFor[gatewayv1.GRPCRouteFilterType]():      {enum: []string{"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"}},
		reflect.TypeFor[gatewayv1.HTTPRouteRetryStatusCode](): {min: 400, max: 599},
		reflect.TypeFor[corev1.Protocol]():                    {enum: []string{"TCP", "UDP", "SCTP"}},
		reflect.TypeFor[corev1.ServiceType]():                 {enum: []string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}},
		reflect.TypeFor[discoveryv1.AddressType]():            {enum: []string{"IPv4", "IPv6", "FQDN"}},
		reflect.TypeFor[metav1.LabelSelectorOperator]():       {enum: []string{"In", "NotIn", "Exists", "DoesNotExist"}},

		// Gateway and GatewayClass.
		reflect.TypeFor[gatewayv1.GatewayClassSpec]():    {required: []string{"controllerName"}},
		reflect.TypeFor[gatewayv1.ParametersReference](): {required: []string{"group", "kind", "name"}},
		reflect.TypeFor[gatewayv1.GatewaySpec](): {
			required: []string{"gatewayClassName", "listeners"}, notEmpty: []string{"listeners"},
			most: map[string]int{"listeners": 64}, unique: map[string]string{"listeners": "name"}, object: listeners,
		},
		reflect.TypeFor[gatewayv1.Listener](): {
			required: []string{"name", "port", "protocol"}, object: listener,
			defaults: map[string]any{"allowedRoutes": map[string]any{"namespaces": map[string]any{"from": "Same"}}},
		},
		reflect.TypeFor[gatewayv1.AllowedRoutes]():         {defaults: map[string]any{"namespaces": map[string]any{"from": "Same"}}, most: map[string]int{"kinds": 8}},
		reflect.TypeFor[gatewayv1.RouteNamespaces]():       {defaults: map[string]any{"from": "Same"}, object: routeNamespaces},
		reflect.TypeFor[gatewayv1.RouteGroupKind]():        {required: []string{"kind"}, defaults: map[string]any{"group": gatewayv1.GroupName}},
		reflect.TypeFor[gatewayv1.ListenerTLSConfig]():     {defaults: map[string]any{"mode": "Terminate"}, object: listenerTLS},
		reflect.TypeFor[gatewayv1.SecretObjectReference](): {required: []string{"name"}, defaults: map[string]any{"group": "", "kind": "Secret"}},
		reflect.TypeFor[gatewayv1.ObjectReference]():       {required: []string{"group", "kind", "name"}},
		reflect.TypeFor[gatewayv1.LocalObjectReference]():  {required: []string{"group", "kind", "name"}},

		// Routes.
		reflect.TypeFor[gatewayv1.ParentReference](): {required: []string{"name"}, defaults: map[string]any{"group": gatewayv1.GroupName, "kind": "Gateway"}},
		reflect.TypeFor[gatewayv1.HTTPRouteSpec](): {
			most:     map[string]int{"parentRefs": 32, "hostnames": 16, "rules": 16},
			notEmpty: []string{"rules"}, unique: map[string]string{"rules": "name"},
			defaults: map[string]any{"rules": []any{map[string]any{}}},
		},
		reflect.TypeFor[gatewayv1.GRPCRouteSpec](): {most: map[string]int{"parentRefs": 32, "hostnames": 16, "rules": 16}, unique: map[string]string{"rules": "name"}},
		reflect.TypeFor[gatewayv1.HTTPRouteRule](): {
			most:     map[string]int{"matches": 64, "filters": 16, "backendRefs": 16},
			defaults: map[string]any{"matches": []any{map[string]any{}}}, object: httpRule,
		},
		reflect.TypeFor[gatewayv1.GRPCRouteRule](): {most: map[string]int{"matches": 64, "filters": 16, "backendRefs": 16}},
		reflect.TypeFor[gatewayv1.HTTPRouteMatch](): {
			most:     map[string]int{"headers": 16, "queryParams": 16},
			defaults: map[string]any{"path": map[string]any{}},
		},
		reflect.TypeFor[gatewayv1.HTTPPathMatch]():          {defaults: map[string]any{"type": "PathPrefix", "value": "/"}, object: pathMatch},
		reflect.TypeFor[gatewayv1.HTTPHeaderMatch]():        {required: []string{"name", "value"}, defaults: map[string]any{"type": "Exact"}, object: regexpValue("value")},
		reflect.TypeFor[gatewayv1.HTTPQueryParamMatch]():    {required: []string{"name", "value"}, defaults: map[string]any{"type": "Exact"}, object: regexpValue("value")},
		reflect.TypeFor[gatewayv1.GRPCHeaderMatch]():        {required: []string{"name", "value"}, defaults: map[string]any{"type": "Exact"}, object: regexpValue("value")},
		reflect.TypeFor[gatewayv1.GRPCMethodMatch]():        {defaults: map[string]any{"type": "Exact"}, object: grpcMethod},
		reflect.TypeFor[gatewayv1.HTTPRouteTimeouts]():      {object: timeouts},
		reflect.TypeFor[gatewayv1.BackendRef]():             {required: []string{"name"}, defaults: map[string]any{"group": "", "kind": "Service", "weight": int64(1)}, object: backendRef},
		reflect.TypeFor[gatewayv1.HTTPBackendRef]():         {required: []string{"name"}, defaults: map[string]any{"group": "", "kind": "Service", "weight": int64(1)}, object: backendRef},
		reflect.TypeFor[gatewayv1.GRPCBackendRef]():         {required: []string{"name"}, defaults: map[string]any{"group": "", "kind": "Service", "weight": int64(1)}, object: backendRef},
		reflect.TypeFor[gatewayv1.BackendObjectReference](): {required: []string{"name"}, defaults: map[string]any{"group": "", "kind": "Service"}, object: backendRef},

		// Filters.
		reflect.TypeFor[gatewayv1.HTTPRouteFilter]():           {required: []string{"type"}, object: filter},
		reflect.TypeFor[gatewayv1.GRPCRouteFilter]():           {required: []string{"type"}, object: filter},
		reflect.TypeFor[gatewayv1.HTTPHeader]():                {required: []string{"name", "value"}, object: headerValue},
		reflect.TypeFor[gatewayv1.HTTPHeaderFilter]():          {most: map[string]int{"set": 16, "add": 16, "remove": 16}, unique: map[string]string{"set": "name", "add": "name"}},
		reflect.TypeFor[gatewayv1.HTTPRequestRedirectFilter](): {defaults: map[string]any{"statusCode": int64(302)}, object: redirect},
		reflect.TypeFor[gatewayv1.HTTPPathModifier]():          {required: []string{"type"}, object: pathModifier},
		reflect.TypeFor[gatewayv1.HTTPRequestMirrorFilter]():   {required: []string{"backendRef"}, object: mirror},
		reflect.TypeFor[gatewayv1.HTTPCORSFilter]():            {defaults: map[string]any{"maxAge": int64(5)}, most: map[string]int{"allowOrigins": 64, "allowMethods": 9, "allowHeaders": 64, "exposeHeaders": 64}},

		// Grants and TLS toward backends.
		reflect.TypeFor[gatewayv1.ReferenceGrantSpec]():                        {required: []string{"from", "to"}, notEmpty: []string{"from", "to"}, most: map[string]int{"from": 16, "to": 16}},
		reflect.TypeFor[gatewayv1.ReferenceGrantFrom]():                        {required: []string{"group", "kind", "namespace"}},
		reflect.TypeFor[gatewayv1.ReferenceGrantTo]():                          {required: []string{"group", "kind"}},
		reflect.TypeFor[gatewayv1.BackendTLSPolicySpec]():                      {required: []string{"targetRefs", "validation"}, notEmpty: []string{"targetRefs"}, most: map[string]int{"targetRefs": 16}},
		reflect.TypeFor[gatewayv1.BackendTLSPolicyValidation]():                {required: []string{"hostname"}, object: backendTLS},
		reflect.TypeFor[gatewayv1.LocalPolicyTargetReferenceWithSectionName](): {required: []string{"group", "kind", "name"}},
		reflect.TypeFor[gatewayv1.LocalPolicyTargetReference]():                {required: []string{"group", "kind", "name"}},

		// Kubernetes.
		reflect.TypeFor[corev1.ServiceSpec]():              {unique: map[string]string{"ports": "name"}, defaults: map[string]any{"type": "ClusterIP"}, object: service},
		reflect.TypeFor[corev1.ServicePort]():              {required: []string{"port"}, defaults: map[string]any{"protocol": "TCP"}, object: servicePort},
		reflect.TypeFor[discoveryv1.Endpoint]():            {required: []string{"addresses"}, notEmpty: []string{"addresses"}, most: map[string]int{"addresses": 100}},
		reflect.TypeFor[discoveryv1.EndpointPort]():        {defaults: map[string]any{"protocol": "TCP", "name": ""}},
		reflect.TypeFor[discoveryv1.EndpointSlice]():       {required: []string{"addressType"}},
		reflect.TypeFor[metav1.LabelSelectorRequirement](): {required: []string{"key", "operator"}},
	}
	return rules
}

func methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
}

// What is wrong with a word, or "".

func name(s string) string {
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "must be lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit, at most 253 characters"
	}
	return ""
}

func label(s string) string {
	if len(validation.IsDNS1123Label(s)) > 0 {
		return "must be lower-case letters, digits and `-`, beginning and ending with a letter or digit, at most 63 characters"
	}
	return ""
}

func hostname(s string) string {
	rest := strings.TrimPrefix(s, "*.")
	switch {
	case strings.Contains(s, "://"):
		return "must be a host name alone, without scheme"
	case strings.Contains(s, ":"):
		return "must be a host name alone, without port"
	case strings.Contains(rest, "*"):
		return "may have `*` only as the whole first part, as in *.example.com"
	case strings.ToLower(s) != s:
		return "must be in lower case"
	case len(validation.IsDNS1123Subdomain(rest)) > 0:
		return "must be a host name, such as example.com or *.example.com"
	case len(validation.IsValidIP(nil, rest)) == 0:
		return "must be a host name, not an IP address"
	}
	return ""
}

func preciseHostname(s string) string {
	if strings.HasPrefix(s, "*") {
		return "must be one host name, without `*`"
	}
	return hostname(s)
}

func group(s string) string {
	if strings.Contains(s, "/") {
		return "must be an API group without version, such as " + gatewayv1.GroupName
	}
	if s != "" && len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "must be an API group, such as " + gatewayv1.GroupName
	}
	return ""
}

var kindPattern = regexp.MustCompile(`^[a-zA-Z]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

func kindName(s string) string {
	if !kindPattern.MatchString(s) {
		return "must be a kind, such as Gateway"
	}
	return ""
}

var durationPattern = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func duration(s string) string {
	if !durationPattern.MatchString(s) {
		return "must be a duration such as 500ms, 30s or 1h30m: digits and a unit of h, m, s or ms, without sign and fraction"
	}
	return ""
}

func headerName(s string) string {
	if !httpguts.ValidHeaderFieldName(s) || len(s) > 256 {
		return "must be a header name: letters, digits and - without spaces or colon"
	}
	return ""
}

var controllerPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$`)

func controllerName(s string) string {
	if !controllerPattern.MatchString(s) {
		return "must be a domain and a path, such as kgateway.dev/agentgateway"
	}
	return ""
}

func protocol(s string) string {
	known := []string{"HTTP", "HTTPS", "TLS", "TCP", "UDP"}
	if slices.Contains(known, s) || strings.Contains(s, "/") {
		return ""
	}
	if up := strings.ToUpper(s); slices.Contains(known, up) {
		return "must be in upper case: " + up
	}
	return "must be one of HTTP, HTTPS, TLS, TCP, UDP"
}

var originPattern = regexp.MustCompile(`^\*$|^https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?$`)

func corsOrigin(s string) string {
	if !originPattern.MatchString(s) {
		return "must be an origin, such as https://example.com, without a path, or *"
	}
	return ""
}

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
	parse, ok := err.(*syntax.Error)
	if !ok {
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
