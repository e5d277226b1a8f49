package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A TrafficPolicy says what happens to requests on their way: who may make them,
// how many, and what is changed in them. It covers Gateways, listeners, HTTPRoutes,
// their rules, or Backends.
//
// Where several cover a request, the more specific wins, field by field of the
// spec: rule, route, listener, Gateway; between equals the older. Only rbac and
// budgets add up: all rules and budgets of all levels count.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=tp
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway,gateway.networking.k8s.io/policy=Direct}
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=".spec['targetRefs','targetSelectors'][0].kind",description="The kind of the first thing that the policy covers"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=".spec.targetRefs[0].name",description="The first thing that the policy covers by name"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].status",description="Whether the policy can be used"
// +kubebuilder:printcolumn:name="Attached",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Attached')].status",description="Whether the policy is in force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].message",description="What became of it, in words",priority=1
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the policy covers and does. Required.
	Spec TrafficPolicySpec `json:"spec"`

	// Whether the policy is in force, for each thing that it covers. Written by
	// the controller.
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty"`
}

// A TrafficPolicyList is a list of TrafficPolicies.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}

// A TrafficPolicySpec says what a [TrafficPolicy] covers and does.
//
// +kubebuilder:validation:XValidation:rule="!has(self.autoHostRewrite) || ((!has(self.targetRefs) || self.targetRefs.all(r, r.kind == 'HTTPRoute')) && (!has(self.targetSelectors) || self.targetSelectors.all(r, r.kind == 'HTTPRoute')))",message="autoHostRewrite works on HTTPRoute targets only"
// +kubebuilder:validation:XValidation:rule="!has(self.retry) || !has(self.targetRefs) || self.targetRefs.all(r, r.kind != 'Gateway' || has(r.sectionName))",message="retry on a Gateway needs sectionName, the listener to cover"
// +kubebuilder:validation:XValidation:rule="!has(self.retry) || !has(self.retry.perTryTimeout) || !has(self.timeouts) || !has(self.timeouts.request) || duration(self.timeouts.request) == duration('0s') || duration(self.retry.perTryTimeout) < duration(self.timeouts.request)",message="retry.perTryTimeout must be shorter than timeouts.request"
// +kubebuilder:validation:XValidation:rule="!(has(self.jwtAuthentication) || has(self.apiKeyAuthentication) || has(self.basicAuthentication)) || !has(self.targetRefs) || self.targetRefs.all(r, r.kind != 'Backend')",message="clients are authenticated on Gateways and HTTPRoutes, not on Backends"
type TrafficPolicySpec struct {
	// What the policy covers, by name: 1 to 16 objects of kind Gateway,
	// HTTPRoute, ListenerSet, XListenerSet or Backend in the policy's namespace. One of
	// targetRefs and targetSelectors is needed, else the policy covers nothing.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind in ['Gateway', 'HTTPRoute', 'ListenerSet', 'XListenerSet', 'Backend'])",message="a TrafficPolicy covers objects of kind Gateway, HTTPRoute, ListenerSet, XListenerSet or Backend"
	TargetRefs []PolicyTargetRef `json:"targetRefs,omitempty"`

	// What the policy covers, by label: objects of kind Gateway, HTTPRoute or
	// ListenerSet in the policy's namespace.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind in ['Gateway', 'HTTPRoute', 'ListenerSet', 'XListenerSet'])",message="targetSelectors select objects of kind Gateway, HTTPRoute, ListenerSet or XListenerSet"
	TargetSelectors []PolicyTargetSelector `json:"targetSelectors,omitempty"`

	// Authenticates clients by JSON Web Tokens. On Gateways and HTTPRoutes.
	// Absent: the policy says nothing about tokens.
	// +optional
	JWTAuthentication *JWTAuthentication `json:"jwtAuthentication,omitempty"`

	// Authenticates clients by API keys. On Gateways and HTTPRoutes. Absent: the
	// policy says nothing about keys.
	// +optional
	APIKeyAuthentication *APIKeyAuthentication `json:"apiKeyAuthentication,omitempty"`

	// Authenticates clients by user and password. On Gateways and HTTPRoutes.
	// Absent: the policy says nothing about passwords.
	// +optional
	BasicAuthentication *BasicAuthentication `json:"basicAuthentication,omitempty"`

	// Who may do what. Absent: this policy denies nothing.
	// +optional
	RBAC *RBAC `json:"rbac,omitempty"`

	// What is changed and checked in LLM requests and responses. It has an
	// effect on AI Backends only. Absent: nothing.
	// +optional
	AI *AIPolicy `json:"ai,omitempty"`

	// How many requests may be made. Absent: any number.
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`

	// What requests to language models and MCP tool calls may take together. Budgets
	// add up: those of all levels count. Absent: any amount.
	// +optional
	Budgets *Budgets `json:"budgets,omitempty"`

	// Changes to the headers and body of requests and responses, computed by
	// expressions. Absent: none.
	// +optional
	Transformation *Transformation `json:"transformation,omitempty"`

	// The external service that decides whether a request may proceed. Absent:
	// none.
	// +optional
	ExtAuth *ExtAuthPolicy `json:"extAuth,omitempty"`

	// The external service that sees and changes requests and responses.
	// Absent: none.
	// +optional
	ExtProc *ExtProcPolicy `json:"extProc,omitempty"`

	// Which browser origins may read responses. Absent: the policy says
	// nothing about it.
	// +optional
	CORS *CORSPolicy `json:"cors,omitempty"`

	// Whether requests that change something must come from their own origin.
	// Absent: they need not.
	// +optional
	CSRF *CSRFPolicy `json:"csrf,omitempty"`

	// Fixed changes to headers. Absent: none.
	// +optional
	HeaderModifiers *HeaderModifiers `json:"headerModifiers,omitempty"`

	// Whether the Host header is replaced by the name of the host that the
	// request is sent to. On HTTPRoutes only. Default: false.
	// +optional
	AutoHostRewrite *bool `json:"autoHostRewrite,omitempty"`

	// How much of a request is held before it is sent on. Absent: requests are
	// not held, unless something has to read them.
	// +optional
	Buffer *BufferPolicy `json:"buffer,omitempty"`

	// How long requests may take. The timeouts of an HTTPRoute win. Absent: no
	// limit from this policy.
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`

	// When a request is tried again. The retry of an HTTPRoute wins. Absent:
	// never.
	// +optional
	Retry *Retry `json:"retry,omitempty"`
}

// An RBACAction says what a true expression does.
//
// +kubebuilder:validation:Enum=Allow;Deny
type RBACAction string

// The actions of an [RBAC] block.
const (
	RBACAllow RBACAction = "Allow"
	RBACDeny  RBACAction = "Deny"
)

// An RBAC decides who may do what, by expressions.
type RBAC struct {
	// The expressions. Required.
	Policy RBACPolicy `json:"policy"`

	// What a true expression does. Allow: it permits; what no Allow expression
	// permits is denied. Deny: it denies, whatever else permits. Default:
	// Allow.
	// +optional
	// +kubebuilder:default=Allow
	Action RBACAction `json:"action,omitempty"`
}

// An RBACPolicy holds the expressions of an [RBAC].
type RBACPolicy struct {
	// CEL expressions that yield a bool, at least one. They are alternatives:
	// any one that is true is enough; write a && b where both must hold. They
	// can use request, source, jwt, apiKey, basicAuth and, on an MCP Backend,
	// mcp. An expression that fails permits nothing. One that does not compile makes everything
	// the policy covers answer 500. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=16384
	MatchExpressions []string `json:"matchExpressions"`
}

// An ExtensionRef names a [GatewayExtension].
type ExtensionRef struct {
	// The name of the GatewayExtension. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Its namespace. Default: the policy's.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// A PolicyDisable is an empty object: that it is there switches something off.
type PolicyDisable struct{}

// An ExtAuthPolicy asks an external service whether a request may proceed.
//
// +kubebuilder:validation:XValidation:rule="has(self.extensionRef) != has(self.disable)",message="set exactly one of extensionRef and disable"
type ExtAuthPolicy struct {
	// The GatewayExtension of type ExtAuth that says how to ask. While it is
	// missing, what the policy covers answers 500.
	// +optional
	ExtensionRef *ExtensionRef `json:"extensionRef,omitempty"`

	// How much of the body the service gets. Default: what the
	// GatewayExtension says.
	// +optional
	WithRequestBody *ExtAuthBody `json:"withRequestBody,omitempty"`

	// Values that the service gets beside the request. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	ContextExtensions map[string]string `json:"contextExtensions,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// An ExtProcPolicy shows requests and responses to an external service.
//
// +kubebuilder:validation:XValidation:rule="has(self.extensionRef) != has(self.disable)",message="set exactly one of extensionRef and disable"
type ExtProcPolicy struct {
	// The GatewayExtension of type ExtProc that says how to reach it.
	// +optional
	ExtensionRef *ExtensionRef `json:"extensionRef,omitempty"`

	// What the service sees. Default: what the GatewayExtension says.
	// +optional
	ProcessingMode *ProcessingMode `json:"processingMode,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// A BufferPolicy holds whole requests before they are sent on.
//
// +kubebuilder:validation:XValidation:rule="has(self.maxRequestSize) != has(self.disable)",message="set exactly one of maxRequestSize and disable"
type BufferPolicy struct {
	// The largest request body: a number of bytes with an optional unit, such
	// as 64Ki or 10Mi, more than 0 and less than 4Gi. A larger one is answered
	// 413.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)?$`
	MaxRequestSize string `json:"maxRequestSize,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// Timeouts limit how long a request may take.
type Timeouts struct {
	// From the receipt of the request to the end of the response, all tries
	// included; then the answer is 504. 0s means no limit. Default: no limit.
	// +optional
	Request Duration `json:"request,omitempty"`

	// For how long no byte may move between client and gateway while a
	// request is served. 0s means no limit. Default: 5m for Services and
	// Backends of type Static; MCP and AI backends have clocks of their own.
	// +optional
	StreamIdle Duration `json:"streamIdle,omitempty"`
}

// A Retry says when a request is tried again.
type Retry struct {
	// The conditions, as Envoy names them: 5xx, gateway-error, reset,
	// connect-failure, retriable-4xx, refused-stream, retriable-status-codes
	// and the gRPC codes cancelled, deadline-exceeded, internal,
	// resource-exhausted and unavailable. Default: connect-failure and what
	// statusCodes lists.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum={"5xx","gateway-error","reset","reset-before-request","connect-failure","envoy-ratelimited","retriable-4xx","refused-stream","retriable-status-codes","http3-post-connect-failure","cancelled","deadline-exceeded","internal","resource-exhausted","unavailable"}
	RetryOn []string `json:"retryOn,omitempty"`

	// How often to try again, beside the first try. 0 means never. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	Attempts *int32 `json:"attempts,omitempty"`

	// How long one try may take until its answer begins. It must be shorter
	// than timeouts.request. Default: no limit but that of the request.
	// +optional
	PerTryTimeout Duration `json:"perTryTimeout,omitempty"`

	// The response codes, 400 to 599, to try again on. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	StatusCodes []int32 `json:"statusCodes,omitempty"`

	// How long to wait at most before the first new try; the wait doubles with
	// each, up to ten times. Default: 25ms.
	// +optional
	// +kubebuilder:default="25ms"
	BackoffBaseInterval Duration `json:"backoffBaseInterval,omitempty"`
}
