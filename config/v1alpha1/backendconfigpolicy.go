package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A BackendConfigPolicy says how Services and Backends are reached: how endpoints
// are chosen and ejected, connections kept, TLS spoken, health checked.
//
// Where several cover an object, the oldest wins, field by field of the spec; all
// win over the same fields of a Backend.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=bcp
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway,gateway.networking.k8s.io/policy=Direct}
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=".spec['targetRefs','targetSelectors'][0].kind",description="The kind of the first thing that the policy covers"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=".spec.targetRefs[0].name",description="The first thing that the policy covers by name"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].status",description="Whether the policy can be used"
// +kubebuilder:printcolumn:name="Attached",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Attached')].status",description="Whether the policy is in force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].message",description="What became of it, in words",priority=1
type BackendConfigPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the policy covers and does. Required.
	Spec BackendConfigPolicySpec `json:"spec"`

	// Whether the policy is in force, for each object that it covers. Written by
	// the controller.
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty"`
}

// A BackendConfigPolicyList is a list of BackendConfigPolicies.
//
// +kubebuilder:object:root=true
type BackendConfigPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BackendConfigPolicy `json:"items"`
}

// A BackendConfigPolicySpec says what a [BackendConfigPolicy] covers and does.
type BackendConfigPolicySpec struct {
	// What the policy covers, by name: 1 to 16 objects of kind Service or
	// Backend in the policy's namespace. One of targetRefs and targetSelectors
	// is needed, else the policy covers nothing.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind in ['Service', 'Backend'])",message="a BackendConfigPolicy covers objects of kind Service or Backend"
	TargetRefs []PolicyTargetRef `json:"targetRefs,omitempty"`

	// What the policy covers, by label: objects of kind Service or Backend in
	// the policy's namespace. Default: none.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.kind in ['Service', 'Backend'])",message="a BackendConfigPolicy covers objects of kind Service or Backend"
	TargetSelectors []PolicyTargetSelector `json:"targetSelectors,omitempty"`

	// How to choose among the endpoints. Default: the less busy of two chosen at
	// random.
	// +optional
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`

	// When to stop using an endpoint that fails. Absent: endpoints are never
	// ejected.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`

	// TCP keepalive on connections to the endpoints. Absent: a probe
	// each 30s.
	// +optional
	TCPKeepalive *TCPKeepalive `json:"tcpKeepalive,omitempty"`

	// How long a connection may take to open. Default: 5s.
	// +optional
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`

	// How many bytes of answers are held for each connection until they are
	// read: in HTTP/2 at least 131071 and at most 4259838, of which one request
	// gets a quarter; in HTTP/1.1 at least 4096 and at most 36864. Default, and
	// with 0: what net/http holds, in HTTP/2 up to 4194304 for each request.
	// +optional
	// +kubebuilder:validation:Minimum=0
	PerConnectionBufferLimitBytes *int32 `json:"perConnectionBufferLimitBytes,omitempty"`

	// Limits of HTTP connections. Absent: the defaults of each.
	// +optional
	CommonHTTPProtocolOptions *CommonHTTPProtocolOptions `json:"commonHttpProtocolOptions,omitempty"`

	// TLS toward the endpoints. Absent: none.
	// +optional
	TLS *BackendTLS `json:"tls,omitempty"`

	// Requests that ask an endpoint whether it works. Absent: none.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
}

// CommonHTTPProtocolOptions limit HTTP connections.
type CommonHTTPProtocolOptions struct {
	// How long a connection may stay open without a request. 0s means no limit.
	// Default: 60s.
	// +optional
	IdleTimeout Duration `json:"idleTimeout,omitempty"`

	// The most headers of a response, which may have 256 KiB in all. Default: no
	// limit of their number.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxHeadersCount int32 `json:"maxHeadersCount,omitempty"`

	// How long a request and its response may take in all. Default: no limit.
	// +optional
	MaxStreamDuration Duration `json:"maxStreamDuration,omitempty"`

	// How many requests a connection serves. 0 means no limit. Default: no
	// limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxRequestsPerConnection *int32 `json:"maxRequestsPerConnection,omitempty"`
}

// A WellKnownCACertificates names a set of root certificates.
//
// +kubebuilder:validation:Enum=System
type WellKnownCACertificates string

// The sets of root certificates.
const WellKnownSystem WellKnownCACertificates = "System"

// A BackendTLS is TLS toward endpoints.
//
// +kubebuilder:validation:XValidation:rule="[has(self.secretRef), has(self.files), has(self.wellKnownCACertificates), has(self.insecureSkipVerify)].filter(x, x).size() == 1",message="set exactly one of secretRef, files, wellKnownCACertificates and insecureSkipVerify"
// +kubebuilder:validation:XValidation:rule="!has(self.verifySubjectAltNames) || !has(self.insecureSkipVerify)",message="verifySubjectAltNames has no effect with insecureSkipVerify: remove one of them"
type BackendTLS struct {
	// The Secret, in the namespace of this object, with ca.crt and, for a
	// client certificate, tls.crt and tls.key. Exactly one of secretRef, files,
	// wellKnownCACertificates and insecureSkipVerify is set.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`

	// Files of the gateway's machine.
	// +optional
	Files *TLSFiles `json:"files,omitempty"`

	// A set of root certificates; System is the only one.
	// +optional
	WellKnownCACertificates WellKnownCACertificates `json:"wellKnownCACertificates,omitempty"`

	// Whether the endpoint's certificate is not verified. Anyone on the way can
	// then read and change what is sent. Default: false.
	// +optional
	InsecureSkipVerify *bool `json:"insecureSkipVerify,omitempty"`

	// The server name to ask for. Default: the name of the host.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SNI string `json:"sni,omitempty"`

	// The names of which the certificate must carry one. Default: the server
	// name.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	VerifySubjectAltNames []string `json:"verifySubjectAltNames,omitempty"`

	// Versions and ciphers. Default: TLS 1.2 and 1.3 with safe ciphers.
	// +optional
	Parameters *TLSParameters `json:"parameters,omitempty"`

	// The application protocols to offer. Default: h2 and http/1.1.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	ALPNProtocols []string `json:"alpnProtocols,omitempty"`

	// Whether TLS 1.2 renegotiation is permitted. Default: false.
	// +optional
	AllowRenegotiation bool `json:"allowRenegotiation,omitempty"`

	// Whether the client certificate of secretRef or files is not sent. Default:
	// false.
	// +optional
	SimpleTLS bool `json:"simpleTLS,omitempty"`
}

// TLSFiles are certificate files.
//
// +kubebuilder:validation:XValidation:rule="has(self.tlsCertificate) == has(self.tlsKey)",message="set tlsCertificate and tlsKey together, or neither"
// +kubebuilder:validation:XValidation:rule="has(self.tlsCertificate) || has(self.rootCA)",message="set rootCA, or tlsCertificate and tlsKey, or all"
type TLSFiles struct {
	// The client certificate, PEM. Set together with tlsKey.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	TLSCertificate string `json:"tlsCertificate,omitempty"`

	// The key of the client certificate, PEM. Set together with tlsCertificate.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	TLSKey string `json:"tlsKey,omitempty"`

	// The root certificates, PEM. Default: the system's.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	RootCA string `json:"rootCA,omitempty"`
}

// A TLSVersion is a version of TLS.
//
// +kubebuilder:validation:Enum=AUTO;"1.0";"1.1";"1.2";"1.3"
type TLSVersion string

// The versions of TLS.
const (
	TLSAuto TLSVersion = "AUTO"
	TLS10   TLSVersion = "1.0"
	TLS11   TLSVersion = "1.1"
	TLS12   TLSVersion = "1.2"
	TLS13   TLSVersion = "1.3"
)

// TLSParameters choose versions and ciphers.
type TLSParameters struct {
	// The lowest version: AUTO, 1.0, 1.1, 1.2 or 1.3. Default: AUTO, which is
	// 1.2.
	// +optional
	MinVersion TLSVersion `json:"minVersion,omitempty"`

	// The highest version. Default: AUTO, which is 1.3.
	// +optional
	MaxVersion TLSVersion `json:"maxVersion,omitempty"`

	// The ciphers of TLS 1.2, by their IANA or OpenSSL names. Default: the safe
	// ones.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	CipherSuites []string `json:"cipherSuites,omitempty"`

	// The curves: X25519, P-256, P-384 and P-521. Default: all.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	ECDHCurves []string `json:"ecdhCurves,omitempty"`
}

// A HealthCheck asks endpoints whether they work.
//
// +kubebuilder:validation:XValidation:rule="has(self.http) != has(self.grpc)",message="set exactly one of http and grpc"
type HealthCheck struct {
	// How long an answer may take. Required.
	Timeout Duration `json:"timeout"`

	// How often to ask. Required.
	Interval Duration `json:"interval"`

	// How many failures in a row stop the use of an endpoint, at least 1.
	// Required.
	// +kubebuilder:validation:Minimum=1
	UnhealthyThreshold int32 `json:"unhealthyThreshold"`

	// How many answers in a row bring it back, at least 1. Required.
	// +kubebuilder:validation:Minimum=1
	HealthyThreshold int32 `json:"healthyThreshold"`

	// Ask by an HTTP request, which is well answered by 200. Exactly one of http
	// and grpc is set.
	// +optional
	HTTP *HealthCheckHTTP `json:"http,omitempty"`

	// Ask by grpc.health.v1.Health.
	// +optional
	GRPC *HealthCheckGRPC `json:"grpc,omitempty"`
}

// A HealthCheckHTTP asks by an HTTP request.
type HealthCheckHTTP struct {
	// The path. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path"`

	// The Host header. Default: the endpoint's.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host,omitempty"`

	// The method. Default: GET.
	// +optional
	// +kubebuilder:default=GET
	// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;DELETE;OPTIONS;TRACE;PATCH
	Method string `json:"method,omitempty"`
}

// A HealthCheckGRPC asks by grpc.health.v1.Health.
type HealthCheckGRPC struct {
	// The service to ask about. Default: the server as a whole.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ServiceName string `json:"serviceName,omitempty"`

	// The :authority to send. Default: the endpoint's.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Authority string `json:"authority,omitempty"`
}
