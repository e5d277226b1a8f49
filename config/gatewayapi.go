package config

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// kubernetesRules returns what the types of the Gateway API, and those of
// Kubernetes that mcpgw reads, permit: as in the custom resource definitions of
// Gateway API v1.6 and the validation of the API server.
func kubernetesRules() map[reflect.Type]rule {
	rules := map[reflect.Type]rule{
		// Words and numbers.
		reflect.TypeFor[gatewayv1.ObjectName]():                 {check: name},
		reflect.TypeFor[gatewayv1.Namespace]():                  {check: label},
		reflect.TypeFor[gatewayv1.SectionName]():                {check: name},
		reflect.TypeFor[gatewayv1.Hostname]():                   {check: hostname},
		reflect.TypeFor[gatewayv1.PreciseHostname]():            {check: preciseHostname},
		reflect.TypeFor[gatewayv1.Group]():                      {check: group},
		reflect.TypeFor[gatewayv1.Kind]():                       {check: kindName},
		reflect.TypeFor[gatewayv1.Duration]():                   {check: duration},
		reflect.TypeFor[gatewayv1.HTTPHeaderName]():             {check: headerName},
		reflect.TypeFor[gatewayv1.HeaderName]():                 {check: headerName},
		reflect.TypeFor[gatewayv1.GatewayController]():          {check: controllerName},
		reflect.TypeFor[gatewayv1.ProtocolType]():               {check: protocol},
		reflect.TypeFor[gatewayv1.CORSOrigin]():                 {check: corsOrigin},
		reflect.TypeFor[gatewayv1.HTTPMethod]():                 {enum: methods()},
		reflect.TypeFor[gatewayv1.HTTPMethodWithWildcard]():     {enum: append(methods(), "*")},
		reflect.TypeFor[gatewayv1.PathMatchType]():              {enum: []string{"Exact", "PathPrefix", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.HeaderMatchType]():            {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.QueryParamMatchType]():        {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.GRPCMethodMatchType]():        {enum: []string{"Exact", "RegularExpression"}},
		reflect.TypeFor[gatewayv1.FromNamespaces]():             {enum: []string{"All", "Selector", "Same", "None"}},
		reflect.TypeFor[gatewayv1.TLSModeType]():                {enum: []string{"Terminate", "Passthrough"}},
		reflect.TypeFor[gatewayv1.FrontendValidationModeType](): {enum: []string{"AllowValidOnly", "AllowInsecureFallback"}},
		reflect.TypeFor[gatewayv1.HTTPPathModifierType]():       {enum: []string{"ReplaceFullPath", "ReplacePrefixMatch"}},
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
		reflect.TypeFor[gatewayv1.ListenerSetSpec](): {
			required: []string{"parentRef", "listeners"}, notEmpty: []string{"listeners"},
			most: map[string]int{"listeners": 64}, unique: map[string]string{"listeners": "name"}, object: listeners,
		},
		reflect.TypeFor[gatewayv1.ParentGatewayReference](): {required: []string{"name"}, defaults: map[string]any{"group": gatewayv1.GroupName, "kind": "Gateway"}},
		reflect.TypeFor[gatewayv1.ListenerEntry](): {
			required: []string{"name", "port", "protocol"}, object: listener,
			defaults: map[string]any{"allowedRoutes": map[string]any{"namespaces": map[string]any{"from": "Same"}}},
		},
		reflect.TypeFor[gatewayv1.AllowedListeners]():   {defaults: map[string]any{"namespaces": map[string]any{"from": "None"}}},
		reflect.TypeFor[gatewayv1.ListenerNamespaces](): {defaults: map[string]any{"from": "None"}, object: routeNamespaces},
		reflect.TypeFor[gatewayv1.AllowedRoutes]():      {defaults: map[string]any{"namespaces": map[string]any{"from": "Same"}}, most: map[string]int{"kinds": 8}},
		reflect.TypeFor[gatewayv1.RouteNamespaces]():    {defaults: map[string]any{"from": "Same"}, object: routeNamespaces},
		reflect.TypeFor[gatewayv1.RouteGroupKind]():     {required: []string{"kind"}, defaults: map[string]any{"group": gatewayv1.GroupName}},
		reflect.TypeFor[gatewayv1.ListenerTLSConfig]():  {defaults: map[string]any{"mode": "Terminate"}, object: listenerTLS},
		reflect.TypeFor[gatewayv1.FrontendTLSConfig]():  {required: []string{"default"}, most: map[string]int{"perPort": 64}, unique: map[string]string{"perPort": "port"}},
		reflect.TypeFor[gatewayv1.TLSPortConfig]():      {required: []string{"port", "tls"}},
		reflect.TypeFor[gatewayv1.FrontendTLSValidation](): {
			required: []string{"caCertificateRefs"}, notEmpty: []string{"caCertificateRefs"}, most: map[string]int{"caCertificateRefs": 16}, defaults: map[string]any{"mode": "AllowValidOnly"},
		},
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
