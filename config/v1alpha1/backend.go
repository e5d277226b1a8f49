package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Backend is what an HTTPRoute can send requests to beside a Service: MCP
// servers as one endpoint, LLM providers, fixed hosts, an AWS Lambda function, or
// whatever host a request names.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=be
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway}
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=".spec.type",description="Which type of backend this is"
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=".spec['static','mcp']..host",description="The first host that is named"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.conditions[?(@.type=='Accepted')].status",description="Whether the backend can be used"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=".spec.mcp.targets[0].name",description="The first target of an MCP backend",priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Accepted')].message",description="What became of it, in words",priority=1
type Backend struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the backend is. Required.
	Spec BackendSpec `json:"spec"`

	// Whether the backend can be used. Written by the controller.
	// +optional
	Status ConditionsStatus `json:"status,omitempty"`
}

// A BackendList is a list of Backends.
//
// +kubebuilder:object:root=true
type BackendList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Backend `json:"items"`
}

// A BackendType says what a [Backend] is.
//
// +kubebuilder:validation:Enum=AI;Static;AWS;MCP;DynamicForwardProxy
type BackendType string

// The types of backends.
const (
	BackendAI                  BackendType = "AI"
	BackendStatic              BackendType = "Static"
	BackendAWS                 BackendType = "AWS"
	BackendMCP                 BackendType = "MCP"
	BackendDynamicForwardProxy BackendType = "DynamicForwardProxy"
)

// A BackendSpec describes a [Backend]: its type, and the one block of that type.
//
// +kubebuilder:validation:XValidation:rule="[has(self.ai), has(self.static), has(self.aws), has(self.mcp), has(self.dynamicForwardProxy)].filter(x, x).size() <= 1",message="set only one of ai, static, aws, mcp and dynamicForwardProxy"
// +kubebuilder:validation:XValidation:rule="has(self.ai) || has(self.static) || has(self.aws) || has(self.mcp) || has(self.dynamicForwardProxy) || (has(self.type) && self.type == 'DynamicForwardProxy')",message="set one of ai, static, aws, mcp and dynamicForwardProxy"
// +kubebuilder:validation:XValidation:rule="!has(self.ai) || !has(self.type) || self.type == 'AI'",message="ai is set, so type must be AI"
// +kubebuilder:validation:XValidation:rule="!has(self.static) || !has(self.type) || self.type == 'Static'",message="static is set, so type must be Static"
// +kubebuilder:validation:XValidation:rule="!has(self.aws) || !has(self.type) || self.type == 'AWS'",message="aws is set, so type must be AWS"
// +kubebuilder:validation:XValidation:rule="!has(self.mcp) || !has(self.type) || self.type == 'MCP'",message="mcp is set, so type must be MCP"
// +kubebuilder:validation:XValidation:rule="!has(self.dynamicForwardProxy) || !has(self.type) || self.type == 'DynamicForwardProxy'",message="dynamicForwardProxy is set, so type must be DynamicForwardProxy"
type BackendSpec struct {
	// What the backend is. AI: LLM providers. Static: fixed hosts. AWS: a
	// Lambda function. MCP: MCP servers as one endpoint. DynamicForwardProxy:
	// the host that the request names. Default: the type of the one block that
	// is set.
	// +optional
	Type BackendType `json:"type,omitempty"`

	// The LLM providers. With type AI only.
	// +optional
	AI *AIBackend `json:"ai,omitempty"`

	// The fixed hosts. With type Static only.
	// +optional
	Static *StaticBackend `json:"static,omitempty"`

	// The Lambda function. With type AWS only.
	// +optional
	AWS *AWSBackend `json:"aws,omitempty"`

	// The MCP servers. With type MCP only.
	// +optional
	MCP *MCPBackend `json:"mcp,omitempty"`

	// How to reach the host that a request names. With type
	// DynamicForwardProxy only, where it may be left out.
	// +optional
	DynamicForwardProxy *DynamicForwardProxyBackend `json:"dynamicForwardProxy,omitempty"`

	// How to choose among the endpoints. A BackendConfigPolicy that covers the
	// backend wins. Default: the less busy of two chosen at random.
	// +optional
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`

	// When to stop using an endpoint that fails. A BackendConfigPolicy that
	// covers the backend wins. Absent: endpoints are never ejected.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`

	// TCP keepalive on connections to the endpoints. A BackendConfigPolicy that
	// covers the backend wins. Absent: a probe each 30s.
	// +optional
	TCPKeepalive *TCPKeepalive `json:"tcpKeepalive,omitempty"`
}

// A StaticBackend is a set of fixed hosts.
type StaticBackend struct {
	// The hosts, at least one. All of their addresses form one set of
	// endpoints among which requests are balanced; names are resolved again
	// every 10s. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Hosts []Host `json:"hosts"`

	// The protocol that the hosts speak: http2, grpc and kubernetes.io/h2c are
	// HTTP/2 without TLS, grpc-web and kubernetes.io/ws are HTTP/1.1. Default:
	// HTTP/1.1.
	// +optional
	AppProtocol AppProtocol `json:"appProtocol,omitempty"`
}

// An AppProtocol is what the hosts of a [StaticBackend] speak.
//
// +kubebuilder:validation:Enum=http2;grpc;grpc-web;kubernetes.io/h2c;kubernetes.io/ws
type AppProtocol string

// The application protocols.
const (
	AppProtocolHTTP2     AppProtocol = "http2"
	AppProtocolGRPC      AppProtocol = "grpc"
	AppProtocolGRPCWeb   AppProtocol = "grpc-web"
	AppProtocolH2C       AppProtocol = "kubernetes.io/h2c"
	AppProtocolWebSocket AppProtocol = "kubernetes.io/ws"
)

// A Host is an address and port.
type Host struct {
	// An IP address or DNS name, without port. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host"`

	// The port, 1 to 65535. Required. Port 443 does not imply TLS.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// A DynamicForwardProxyBackend sends each request to the host that it names.
type DynamicForwardProxyBackend struct {
	// Whether to use TLS toward the host, verified against the system's root
	// certificates and the requested name. Default: false. It also decides the
	// port of a request that names none: 443 with TLS, else 80.
	// +optional
	EnableTLS bool `json:"enableTls,omitempty"`

	// Destinations that are permitted although they are refused by default:
	// CIDRs such as 10.0.0.0/8 and host names such as internal.example.com or
	// *.example.com. Loopback, link-local, cloud metadata, unspecified and the
	// gateway's own addresses are refused, checked on the address that is
	// dialled. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AllowedDestinations []string `json:"allowedDestinations,omitempty"`
}
