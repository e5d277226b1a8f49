package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// An HTTPListenerPolicy configures all HTTP and HTTPS listeners of a Gateway:
// access logs, traces, upgrades, whose address counts as the client's.
//
// Where several cover a Gateway, the oldest wins, field by field of the spec.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=hlp
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway,gateway.networking.k8s.io/policy=Direct}
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=".spec.targetRefs[0].name",description="The first thing that the policy covers by name"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].status",description="Whether the policy can be used"
// +kubebuilder:printcolumn:name="Attached",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Attached')].status",description="Whether the policy is in force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].message",description="What became of it, in words",priority=1
type HTTPListenerPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the policy covers and does. Required.
	Spec HTTPListenerPolicySpec `json:"spec"`

	// Whether the policy is in force, for each Gateway that it covers. Written
	// by the controller.
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty"`
}

// An HTTPListenerPolicyList is a list of HTTPListenerPolicies.
//
// +kubebuilder:object:root=true
type HTTPListenerPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPListenerPolicy `json:"items"`
}

// An HTTPListenerPolicySpec says what an [HTTPListenerPolicy] covers and does.
type HTTPListenerPolicySpec struct {
	// What the policy covers, by name: 1 to 16 Gateways in the policy's
	// namespace, whole. One of targetRefs and targetSelectors is needed, else
	// the policy covers nothing.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind == 'Gateway')",message="an HTTPListenerPolicy covers objects of kind Gateway"
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.sectionName))",message="an HTTPListenerPolicy covers whole Gateways: remove sectionName"
	TargetRefs []PolicyTargetRef `json:"targetRefs,omitempty"`

	// What the policy covers, by label: Gateways in the policy's namespace.
	// Default: none.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind == 'Gateway')",message="an HTTPListenerPolicy covers objects of kind Gateway"
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.sectionName))",message="an HTTPListenerPolicy covers whole Gateways: remove sectionName"
	TargetSelectors []PolicyTargetSelector `json:"targetSelectors,omitempty"`

	// Where requests are logged, at most 16 logs. Absent: no log beside the
	// gateway's own.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	AccessLog []AccessLog `json:"accessLog,omitempty"`

	// Where spans are sent. Absent: nowhere.
	// +optional
	Tracing *Tracing `json:"tracing,omitempty"`

	// The protocols that a connection may be upgraded to. Absent: websocket.
	// +optional
	UpgradeConfig *UpgradeConfig `json:"upgradeConfig,omitempty"`

	// Whose address is the client's. true: the TCP peer's. false: that of
	// X-Forwarded-For, as xffNumTrustedHops says. Default: true.
	// +optional
	UseRemoteAddress *bool `json:"useRemoteAddress,omitempty"`

	// How many addresses at the end of X-Forwarded-For were written by proxies
	// that are trusted. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=256
	XFFNumTrustedHops *int32 `json:"xffNumTrustedHops,omitempty"`

	// What becomes of the Server header of responses. Overwrite: it is the
	// gateway's. AppendIfAbsent: it is the gateway's where there is none.
	// PassThrough: it stays. Default: PassThrough.
	// +optional
	ServerHeaderTransformation ServerHeaderTransformation `json:"serverHeaderTransformation,omitempty"`

	// How long no byte may move between client and gateway while a request is
	// served, as timeouts.streamIdle of a TrafficPolicy has it, which counts
	// where it is set. 0s means no limit. Default: 5m for services, none for
	// others.
	// +optional
	StreamIdleTimeout Duration `json:"streamIdleTimeout,omitempty"`

	// How long a connection may stay open without a request. 0s means no limit.
	// Gateways that share a port share the shortest. A change opens the port
	// anew. Default: 2m.
	// +optional
	IdleTimeout Duration `json:"idleTimeout,omitempty"`

	// A path that the gateway answers itself. Absent: none.
	// +optional
	HealthCheck *HealthCheckPath `json:"healthCheck,omitempty"`

	// Whether header names keep the case in which they are written, over
	// HTTP/1. It is not served: they are read in any case and written in their
	// usual one. Default: false.
	// +optional
	PreserveHTTP1HeaderCase *bool `json:"preserveHttp1HeaderCase,omitempty"`

	// Whether HTTP/1.0 is served, which proxies and checks of some age still speak. Else
	// it is answered 426. Default: true.
	// +optional
	AcceptHTTP10 *bool `json:"acceptHttp10,omitempty"`

	// The host of HTTP/1.0 requests that name none. It excludes acceptHttp10: false. Of
	// Gateways that share a port, that of the first counts. Default: none, such
	// requests are answered 400.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$`
	DefaultHostForHTTP10 string `json:"defaultHostForHttp10,omitempty"`
}

// A ServerHeaderTransformation says what becomes of the Server header.
//
// +kubebuilder:validation:Enum=Overwrite;AppendIfAbsent;PassThrough
type ServerHeaderTransformation string

// The Server header transformations.
const (
	ServerHeaderOverwrite      ServerHeaderTransformation = "Overwrite"
	ServerHeaderAppendIfAbsent ServerHeaderTransformation = "AppendIfAbsent"
	ServerHeaderPassThrough    ServerHeaderTransformation = "PassThrough"
)

// An UpgradeConfig says which upgrades are permitted.
type UpgradeConfig struct {
	// The protocols, as the Upgrade header names them, in any case; at least
	// one. Others are answered 403. CONNECT and h2c are not served. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+(/[-!#$%&'*+.^_|~0-9A-Za-z]+)?$`
	EnabledUpgrades []string `json:"enabledUpgrades"`
}

// A HealthCheckPath is a path that the gateway answers itself.
type HealthCheckPath struct {
	// The path, exactly; it is answered 200, and 503 while the gateway drains.
	// Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^/[-a-zA-Z0-9@:%.+~#?&/=_]*$`
	Path string `json:"path"`
}
