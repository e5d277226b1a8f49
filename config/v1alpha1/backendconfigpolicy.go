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
// +kubebuilder:resource:categories=kgateway
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway,gateway.networking.k8s.io/policy=Direct}
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.ancestors[*].conditions[?(@.type=='Accepted')].status",description="Whether the policy can be used"
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

	// TCP keepalive on connections to the endpoints. Absent: off.
	// +optional
	TCPKeepalive *TCPKeepalive `json:"tcpKeepalive,omitempty"`

	// How long a connection may take to open. Default: 5s.
	// +optional
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`

	// How many bytes are held for each connection. Default: 1048576.
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

// A LoadBalancerType is a way to choose among endpoints.
//
// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;RingHash;Maglev;Random
type LoadBalancerType string

// The ways to choose among endpoints.
const (
	LoadBalancerRoundRobin   LoadBalancerType = "RoundRobin"
	LoadBalancerLeastRequest LoadBalancerType = "LeastRequest"
	LoadBalancerRingHash     LoadBalancerType = "RingHash"
	LoadBalancerMaglev       LoadBalancerType = "Maglev"
	LoadBalancerRandom       LoadBalancerType = "Random"
)

// A LoadBalancer chooses among endpoints.
//
// +kubebuilder:validation:XValidation:rule="!has(self.hashPolicy) || (has(self.type) && self.type in ['RingHash', 'Maglev'])",message="hashPolicy works with type RingHash or Maglev only"
// +kubebuilder:validation:XValidation:rule="!has(self.choiceCount) || !has(self.type) || self.type == 'LeastRequest'",message="choiceCount works with type LeastRequest only"
// +kubebuilder:validation:XValidation:rule="!(has(self.minimumRingSize) || has(self.maximumRingSize)) || (has(self.type) && self.type == 'RingHash')",message="ring sizes work with type RingHash only"
// +kubebuilder:validation:XValidation:rule="!has(self.minimumRingSize) || !has(self.maximumRingSize) || self.minimumRingSize <= self.maximumRingSize",message="minimumRingSize must not be more than maximumRingSize"
type LoadBalancer struct {
	// How to choose. RoundRobin: in turn. LeastRequest: the least busy of a few
	// chosen at random. RingHash and Maglev: the same for requests with the
	// same hash. Random: any. Default: LeastRequest.
	// +optional
	Type LoadBalancerType `json:"type,omitempty"`

	// What RingHash and Maglev hash, 1 to 16 values, combined in order. A
	// request that has none of them goes to any endpoint.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	HashPolicy []HashPolicy `json:"hashPolicy,omitempty"`

	// How many endpoints LeastRequest compares, at least 2. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=256
	ChoiceCount int32 `json:"choiceCount,omitempty"`

	// The smallest ring of RingHash, 1 to 8388608. Default: 1024.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	MinimumRingSize int64 `json:"minimumRingSize,omitempty"`

	// The largest ring of RingHash, 1 to 8388608. Default: 8388608.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	MaximumRingSize int64 `json:"maximumRingSize,omitempty"`

	// Whether RingHash and Maglev hash the name of an endpoint and not its
	// address. Default: false.
	// +optional
	UseHostnameForHashing bool `json:"useHostnameForHashing,omitempty"`

	// How a new endpoint of RoundRobin or LeastRequest comes to its full share.
	// Absent: at once.
	// +optional
	SlowStart *SlowStart `json:"slowStart,omitempty"`

	// The share of usable endpoints, 0 to 100, below which all are used. Default:
	// 50.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	HealthyPanicThreshold *int32 `json:"healthyPanicThreshold,omitempty"`

	// How long changes of endpoints are collected. 0s means not at all. Default:
	// 1s.
	// +optional
	UpdateMergeWindow Duration `json:"updateMergeWindow,omitempty"`

	// How localities are weighed; WeightedLb is the only type. Absent: they are
	// not.
	// +optional
	LocalityType LocalityType `json:"localityType,omitempty"`

	// Whether connections to an endpoint that goes are closed. Default: false.
	// +optional
	CloseConnectionsOnHostSetChange bool `json:"closeConnectionsOnHostSetChange,omitempty"`
}

// A LocalityType says how localities are weighed.
//
// +kubebuilder:validation:Enum=WeightedLb
type LocalityType string

// The locality types.
const LocalityWeightedLb LocalityType = "WeightedLb"

// A SlowStart gives a new endpoint a growing share.
type SlowStart struct {
	// How long it takes. Required.
	Window Duration `json:"window"`

	// How the share grows: a decimal number above 0; 1.0 is evenly. Default:
	// 1.0.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9]{1,6}(\.[0-9]{1,6})?$`
	// +kubebuilder:validation:XValidation:rule="double(self) > 0.0",message="aggression must be more than 0"
	Aggression string `json:"aggression,omitempty"`

	// The least share, in percent, 0 to 100. Default: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinWeightPercent *int32 `json:"minWeightPercent,omitempty"`
}

// A HashPolicy is one value that is hashed.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.cookie), has(self.sourceIP)].filter(x, x).size() == 1",message="set exactly one of header, cookie and sourceIP"
type HashPolicy struct {
	// The value of a header. Exactly one of header, cookie and sourceIP is set.
	// +optional
	Header *HashHeader `json:"header,omitempty"`

	// The value of a cookie.
	// +optional
	Cookie *HashCookie `json:"cookie,omitempty"`

	// The client's address. Write sourceIP: {}.
	// +optional
	SourceIP *HashSourceIP `json:"sourceIP,omitempty"`

	// Whether the entries after this one are left out when this one has a
	// value. Default: false.
	// +optional
	Terminal bool `json:"terminal,omitempty"`
}

// A HashHeader hashes a header.
type HashHeader struct {
	// The name of the header. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	HeaderName string `json:"headerName"`
}

// A HashSourceIP hashes the client's address. It has no settings.
type HashSourceIP struct{}

// A CookieSameSite is the SameSite attribute of a cookie.
//
// +kubebuilder:validation:Enum=Strict;Lax;None
type CookieSameSite string

// The SameSite attributes.
const (
	CookieSameSiteStrict CookieSameSite = "Strict"
	CookieSameSiteLax    CookieSameSite = "Lax"
	CookieSameSiteNone   CookieSameSite = "None"
)

// A HashCookie hashes a cookie.
type HashCookie struct {
	// The name of the cookie. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// How long a cookie lasts that the gateway makes where there is none; 0s
	// means as long as the browser runs. Absent: the gateway makes none.
	// +optional
	TTL *Duration `json:"ttl,omitempty"`

	// The Path of a cookie that the gateway makes. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`

	// Whether that cookie is Secure. Default: false.
	// +optional
	Secure bool `json:"secure,omitempty"`

	// Whether that cookie is HttpOnly. Default: false.
	// +optional
	HTTPOnly bool `json:"httpOnly,omitempty"`

	// The SameSite of that cookie. Default: none.
	// +optional
	SameSite CookieSameSite `json:"sameSite,omitempty"`
}

// An OutlierDetection stops using endpoints that fail. At least one endpoint may
// always be ejected, and when all are, all are used.
type OutlierDetection struct {
	// How many failures in a row eject an endpoint: 5xx responses, connections
	// that fail or break, timeouts. 0 switches it off. Default: 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=0
	Consecutive5xx *int32 `json:"consecutive5xx,omitempty"`

	// How often success rates are compared and ejected endpoints come back.
	// Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	Interval Duration `json:"interval,omitempty"`

	// How long an ejection lasts, times how often the endpoint was ejected, at
	// most 300s. Default: 30s.
	// +optional
	// +kubebuilder:default="30s"
	BaseEjectionTime Duration `json:"baseEjectionTime,omitempty"`

	// The largest share of endpoints that may be ejected, 0 to 100. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`

	// How likely failures in a row eject, in percent, 0 to 100. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	EnforcingConsecutive5xx *int32 `json:"enforcingConsecutive5xx,omitempty"`

	// How likely a low success rate ejects, in percent, 0 to 100. Success rates
	// are compared when this or another successRate field is set. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	EnforcingSuccessRate *int32 `json:"enforcingSuccessRate,omitempty"`

	// How many endpoints must have enough requests for success rates to be
	// compared. Default: 5.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateMinimumHosts *int32 `json:"successRateMinimumHosts,omitempty"`

	// How many requests of an endpoint in an interval are enough. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateRequestVolume *int32 `json:"successRateRequestVolume,omitempty"`

	// How far below the mean a success rate may be, in thousandths of the
	// standard deviation. Default: 1900.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateStdevFactor *int32 `json:"successRateStdevFactor,omitempty"`
}

// A TCPKeepalive probes idle connections. What is absent is as the system has it.
type TCPKeepalive struct {
	// How many probes without an answer end a connection. Default: the
	// system's.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Probes *int32 `json:"probes,omitempty"`

	// How long a connection is idle before the first probe, at least 1s.
	// Default: the system's.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="time must be at least 1s"
	Time Duration `json:"time,omitempty"`

	// The time between probes, at least 1s. Default: the system's.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="interval must be at least 1s"
	Interval Duration `json:"interval,omitempty"`
}

// CommonHTTPProtocolOptions limit HTTP connections.
type CommonHTTPProtocolOptions struct {
	// How long a connection may stay open without a request. 0s means no limit.
	// Default: 90s.
	// +optional
	IdleTimeout Duration `json:"idleTimeout,omitempty"`

	// The most headers of a response. Default: 200.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxHeadersCount int32 `json:"maxHeadersCount,omitempty"`

	// How long a request and its response may take in all. Default: no limit.
	// +optional
	MaxStreamDuration Duration `json:"maxStreamDuration,omitempty"`

	// How many requests a connection serves. Default: no limit.
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
