package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A GatewayExtension is an external service that a TrafficPolicy can use: one
// that decides (ExtAuth), one that changes (ExtProc) or one that counts
// (RateLimit).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=gwe
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway}
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=".spec.type",description="Which type of extension this is"
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=".spec['extAuth','extProc','rateLimit']..backendRef.name",description="The service that is asked"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=".status.conditions[?(@.type=='Accepted')].status",description="Whether the extension can be used"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Accepted')].message",description="What became of it, in words",priority=1
type GatewayExtension struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the service is and where. Required.
	Spec GatewayExtensionSpec `json:"spec"`

	// Whether the extension can be used. Written by the controller.
	// +optional
	Status ConditionsStatus `json:"status,omitempty"`
}

// A GatewayExtensionList is a list of GatewayExtensions.
//
// +kubebuilder:object:root=true
type GatewayExtensionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayExtension `json:"items"`
}

// A GatewayExtensionType says what a [GatewayExtension] is.
//
// +kubebuilder:validation:Enum=ExtAuth;ExtProc;RateLimit
type GatewayExtensionType string

// The types of extensions.
const (
	ExtensionExtAuth   GatewayExtensionType = "ExtAuth"
	ExtensionExtProc   GatewayExtensionType = "ExtProc"
	ExtensionRateLimit GatewayExtensionType = "RateLimit"
)

// A GatewayExtensionSpec describes a [GatewayExtension]: its type, and the one
// block of that type.
//
// +kubebuilder:validation:XValidation:rule="[has(self.extAuth), has(self.extProc), has(self.rateLimit)].filter(x, x).size() == 1",message="set exactly one of extAuth, extProc and rateLimit"
// +kubebuilder:validation:XValidation:rule="!has(self.extAuth) || !has(self.type) || self.type == 'ExtAuth'",message="extAuth is set, so type must be ExtAuth"
// +kubebuilder:validation:XValidation:rule="!has(self.extProc) || !has(self.type) || self.type == 'ExtProc'",message="extProc is set, so type must be ExtProc"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimit) || !has(self.type) || self.type == 'RateLimit'",message="rateLimit is set, so type must be RateLimit"
type GatewayExtensionSpec struct {
	// What the service does. ExtAuth: it decides whether a request may
	// proceed. ExtProc: it sees and changes requests and responses. RateLimit:
	// it counts requests. Default: the type of the one block that is set.
	// +optional
	Type GatewayExtensionType `json:"type,omitempty"`

	// How to ask whether a request may proceed. With type ExtAuth only.
	// +optional
	ExtAuth *ExtAuthProvider `json:"extAuth,omitempty"`

	// How to show requests and responses. With type ExtProc only.
	// +optional
	ExtProc *ExtProcProvider `json:"extProc,omitempty"`

	// How to ask whether a request is within the limits. With type RateLimit
	// only.
	// +optional
	RateLimit *RateLimitProvider `json:"rateLimit,omitempty"`
}

// An ExtGRPCService is a gRPC service, reached over HTTP/2 without TLS unless a
// policy configures TLS.
type ExtGRPCService struct {
	// The Service or Backend. Its namespace defaults to this object's. Required.
	BackendRef BackendRef `json:"backendRef"`

	// The :authority to send. Default: the host and port of backendRef.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Authority string `json:"authority,omitempty"`

	// How long an answer may take, at least 1ms; of extProc, how long a stream
	// may last. Default: 200ms, and no limit of extProc.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms')",message="requestTimeout must be at least 1ms"
	RequestTimeout Duration `json:"requestTimeout,omitempty"`

	// When to ask again. Absent: never.
	// +optional
	Retry *ExtServiceRetry `json:"retry,omitempty"`
}

// An ExtServiceRetry says when to ask an external service again.
type ExtServiceRetry struct {
	// How often to ask again, beside the first time, 0 to 32. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	Attempts *int32 `json:"attempts,omitempty"`

	// How long to wait before asking again. Default: 25ms, doubled with each.
	// +optional
	Backoff *ExtServiceBackoff `json:"backoff,omitempty"`
}

// An ExtServiceBackoff is the wait before asking again.
type ExtServiceBackoff struct {
	// The first wait; it doubles with each try. Default: 25ms.
	// +optional
	// +kubebuilder:default="25ms"
	BaseInterval Duration `json:"baseInterval,omitempty"`

	// The longest wait. Default: ten times baseInterval.
	// +optional
	MaxInterval Duration `json:"maxInterval,omitempty"`
}

// An ExtAuthProvider is a service that decides whether a request may proceed.
//
// +kubebuilder:validation:XValidation:rule="has(self.grpcService) != has(self.httpService)",message="set exactly one of grpcService and httpService"
type ExtAuthProvider struct {
	// A gRPC service envoy.service.auth.v3.Authorization. Exactly one of
	// grpcService and httpService is set.
	// +optional
	GRPCService *ExtGRPCService `json:"grpcService,omitempty"`

	// An HTTP service: it permits by 200, any other answer goes to the client.
	// +optional
	HTTPService *ExtHTTPService `json:"httpService,omitempty"`

	// The client headers that the service gets. Default: all over gRPC, and
	// over HTTP the Host, method, path, Content-Length and Authorization.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	HeadersToForward []string `json:"headersToForward,omitempty"`

	// Whether requests proceed while the service can't be asked. Default:
	// false.
	// +optional
	FailOpen bool `json:"failOpen,omitempty"`

	// The status of requests that are refused because the service can't be
	// asked, 100 to 511. Default: 403.
	// +optional
	// +kubebuilder:default=403
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=511
	StatusOnError int32 `json:"statusOnError,omitempty"`

	// Whether the route is chosen again after the service changed headers.
	// Default: false.
	// +optional
	ClearRouteCache bool `json:"clearRouteCache,omitempty"`

	// How much of the body the service gets. Absent: none.
	// +optional
	WithRequestBody *ExtAuthBody `json:"withRequestBody,omitempty"`

	// A prefix for the names of metrics. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	StatPrefix string `json:"statPrefix,omitempty"`
}

// An ExtAuthBody says how much of the body an external service gets.
type ExtAuthBody struct {
	// The most bytes, at least 1. A longer body is answered 413 unless
	// allowPartialMessage is true. Required.
	// +kubebuilder:validation:Minimum=1
	MaxRequestBytes int32 `json:"maxRequestBytes"`

	// Whether a longer body is cut. Default: false.
	// +optional
	AllowPartialMessage bool `json:"allowPartialMessage,omitempty"`

	// Whether the body is sent as bytes and not as text. Default: false.
	// +optional
	PackAsBytes bool `json:"packAsBytes,omitempty"`
}

// An ExtHTTPService is an HTTP service that decides whether a request may
// proceed.
type ExtHTTPService struct {
	// The Service or Backend. Required.
	BackendRef BackendRef `json:"backendRef"`

	// What stands before the request's path. Default: nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/`
	PathPrefix string `json:"pathPrefix,omitempty"`

	// How long an answer may take, at least 1ms. Default: 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms')",message="requestTimeout must be at least 1ms"
	RequestTimeout Duration `json:"requestTimeout,omitempty"`

	// What is added to the question. Absent: nothing.
	// +optional
	AuthorizationRequest *ExtHTTPRequest `json:"authorizationRequest,omitempty"`

	// What is taken from the answer. Absent: nothing of a permission, all of a
	// refusal.
	// +optional
	AuthorizationResponse *ExtHTTPResponse `json:"authorizationResponse,omitempty"`

	// When to ask again. Absent: never.
	// +optional
	Retry *ExtServiceRetry `json:"retry,omitempty"`
}

// An ExtHTTPRequest says what is added to the question of an [ExtHTTPService].
type ExtHTTPRequest struct {
	// Headers to set, by name. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	HeadersToAdd map[string]string `json:"headersToAdd,omitempty"`
}

// An ExtHTTPResponse says what is taken from the answer of an [ExtHTTPService].
type ExtHTTPResponse struct {
	// Headers of a permission that are set in the request. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	HeadersToBackend []string `json:"headersToBackend,omitempty"`

	// Headers of a permission that are set in the response. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	HeadersToClientOnSuccess []string `json:"headersToClientOnSuccess,omitempty"`

	// Headers of a refusal that the client gets. Default: all.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	HeadersToClientOnDenied []string `json:"headersToClientOnDenied,omitempty"`
}

// An ExtProcProvider is a service envoy.service.ext_proc.v3.ExternalProcessor.
type ExtProcProvider struct {
	// The gRPC service. Required.
	GRPCService ExtGRPCService `json:"grpcService"`

	// Whether requests proceed unchanged while the service can't be reached.
	// Default: true.
	// +optional
	// +kubebuilder:default=true
	FailOpen *bool `json:"failOpen,omitempty"`

	// What the service sees. Default: the headers.
	// +optional
	ProcessingMode *ProcessingMode `json:"processingMode,omitempty"`

	// How long one answer may take. Default: 200ms.
	// +optional
	// +kubebuilder:default="200ms"
	MessageTimeout Duration `json:"messageTimeout,omitempty"`

	// The longest time that the service may ask for itself. 0s means that it
	// may not ask. Default: 0s.
	// +optional
	MaxMessageTimeout Duration `json:"maxMessageTimeout,omitempty"`

	// Whether the route is chosen again after the service changed the request.
	// FromResponse: if the service says so. Clear: always. Retain: never.
	// Default: FromResponse.
	// +optional
	// +kubebuilder:default=FromResponse
	RouteCacheAction RouteCacheAction `json:"routeCacheAction,omitempty"`

	// The metadata that the service gets. Default: none.
	// +optional
	MetadataOptions *MetadataOptions `json:"metadataOptions,omitempty"`

	// A prefix for the names of metrics. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	StatPrefix string `json:"statPrefix,omitempty"`
}

// A RouteCacheAction says whether the route is chosen again.
//
// +kubebuilder:validation:Enum=FromResponse;Clear;Retain
type RouteCacheAction string

// The route cache actions.
const (
	RouteCacheFromResponse RouteCacheAction = "FromResponse"
	RouteCacheClear        RouteCacheAction = "Clear"
	RouteCacheRetain       RouteCacheAction = "Retain"
)

// MetadataOptions say which metadata an external processor gets.
type MetadataOptions struct {
	// What is sent. Default: nothing.
	// +optional
	Forwarding *MetadataNamespaces `json:"forwarding,omitempty"`
}

// MetadataNamespaces name metadata.
type MetadataNamespaces struct {
	// Namespaces of typed metadata. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Typed []string `json:"typed,omitempty"`

	// Namespaces of untyped metadata. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Untyped []string `json:"untyped,omitempty"`
}

// A HeaderSendMode says whether an external processor sees headers or trailers.
//
// +kubebuilder:validation:Enum=DEFAULT;SEND;SKIP
type HeaderSendMode string

// The modes for headers and trailers.
const (
	HeaderSendDefault HeaderSendMode = "DEFAULT"
	HeaderSend        HeaderSendMode = "SEND"
	HeaderSkip        HeaderSendMode = "SKIP"
)

// A BodySendMode says how an external processor sees a body.
//
// +kubebuilder:validation:Enum=NONE;STREAMED;BUFFERED;BUFFERED_PARTIAL;FULL_DUPLEX_STREAMED
type BodySendMode string

// The modes for bodies.
const (
	BodySendNone               BodySendMode = "NONE"
	BodySendStreamed           BodySendMode = "STREAMED"
	BodySendBuffered           BodySendMode = "BUFFERED"
	BodySendBufferedPartial    BodySendMode = "BUFFERED_PARTIAL"
	BodySendFullDuplexStreamed BodySendMode = "FULL_DUPLEX_STREAMED"
)

// A ProcessingMode says what an external processor sees.
type ProcessingMode struct {
	// Request headers: SEND, SKIP, or DEFAULT, which is SEND. Default: SEND.
	// +optional
	// +kubebuilder:default=SEND
	RequestHeaderMode HeaderSendMode `json:"requestHeaderMode,omitempty"`

	// Response headers: SEND, SKIP, or DEFAULT, which is SEND. Default: SEND.
	// +optional
	// +kubebuilder:default=SEND
	ResponseHeaderMode HeaderSendMode `json:"responseHeaderMode,omitempty"`

	// The request body: NONE, piece by piece (STREAMED, FULL_DUPLEX_STREAMED),
	// as a whole (BUFFERED) or as much as the buffer holds (BUFFERED_PARTIAL).
	// Default: NONE.
	// +optional
	// +kubebuilder:default=NONE
	RequestBodyMode BodySendMode `json:"requestBodyMode,omitempty"`

	// The response body, as requestBodyMode. Default: NONE.
	// +optional
	// +kubebuilder:default=NONE
	ResponseBodyMode BodySendMode `json:"responseBodyMode,omitempty"`

	// Request trailers: SEND, SKIP, or DEFAULT, which is SKIP. Default: SKIP.
	// +optional
	// +kubebuilder:default=SKIP
	RequestTrailerMode HeaderSendMode `json:"requestTrailerMode,omitempty"`

	// Response trailers: SEND, SKIP, or DEFAULT, which is SKIP. Default: SKIP.
	// +optional
	// +kubebuilder:default=SKIP
	ResponseTrailerMode HeaderSendMode `json:"responseTrailerMode,omitempty"`
}

// A RateLimitProvider is a service envoy.service.ratelimit.v3.RateLimitService.
type RateLimitProvider struct {
	// The gRPC service. Required.
	GRPCService ExtGRPCService `json:"grpcService"`

	// The domain of the limits in the service. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Domain string `json:"domain"`

	// Whether requests proceed while the service can't be asked. Default: true.
	// +optional
	// +kubebuilder:default=true
	FailOpen *bool `json:"failOpen,omitempty"`

	// How long an answer may take. Default: 100ms.
	// +optional
	// +kubebuilder:default="100ms"
	Timeout Duration `json:"timeout,omitempty"`

	// Whether responses carry x-ratelimit-limit, -remaining and -reset: Off or
	// DraftVersion03. Default: Off.
	// +optional
	// +kubebuilder:default=Off
	XRateLimitHeaders XRateLimitHeaders `json:"xRateLimitHeaders,omitempty"`
}

// An XRateLimitHeaders says whether responses carry the limits.
//
// +kubebuilder:validation:Enum=Off;DraftVersion03
type XRateLimitHeaders string

// The forms of rate limit headers.
const (
	XRateLimitOff            XRateLimitHeaders = "Off"
	XRateLimitDraftVersion03 XRateLimitHeaders = "DraftVersion03"
)
