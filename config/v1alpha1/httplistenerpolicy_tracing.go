package v1alpha1

// A Tracing says where spans are sent, and which requests have one.
type Tracing struct {
	// The collector. Required.
	Provider TracingProvider `json:"provider"`

	// The share of requests, 0 to 100 with fractions, that begin a trace where
	// the client began none. A client's decision is kept. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SamplingRate *float64 `json:"samplingRate,omitempty"`

	// The share of requests, 0 to 100, whose client may force a trace. Default:
	// 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ClientSampling *int32 `json:"clientSampling,omitempty"`

	// The share of requests, 0 to 100, that have a trace at the most, whoever
	// began it. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	OverallSampling *int32 `json:"overallSampling,omitempty"`

	// The header formats of traces: all are written, the first that can be read
	// is. Default: W3C_TRACE_CONTEXT.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	Propagators []Propagator `json:"propagators,omitempty"`

	// Attributes of each span, by name. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Tags map[string]TracingTag `json:"tags,omitempty"`

	// Whether spans carry an event for each step of a request: when its route was
	// found, policies had passed it, an upstream was chosen, and the first and last
	// bytes came and went. Default: false.
	// +optional
	Verbose bool `json:"verbose,omitempty"`

	// The longest path that a span carries, in characters. Default: 256.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxPathTagLength int32 `json:"maxPathTagLength,omitempty"`

	// Whether what is sent upstream has a span of its own. Default: false.
	// +optional
	SpawnUpstreamSpan bool `json:"spawnUpstreamSpan,omitempty"`
}

// A Propagator is a header format of traces.
//
// +kubebuilder:validation:Enum=W3C_TRACE_CONTEXT;B3;B3_SINGLE_HEADER;B3_MULTI_HEADER;W3C_BAGGAGE;NONE
type Propagator string

// The header formats of traces.
const (
	PropagatorW3CTraceContext Propagator = "W3C_TRACE_CONTEXT"
	PropagatorB3              Propagator = "B3"
	PropagatorB3SingleHeader  Propagator = "B3_SINGLE_HEADER"
	PropagatorB3MultiHeader   Propagator = "B3_MULTI_HEADER"
	PropagatorW3CBaggage      Propagator = "W3C_BAGGAGE"
	PropagatorNone            Propagator = "NONE"
)

// A TracingProvider is a collector of spans.
type TracingProvider struct {
	// An OpenTelemetry collector. Required.
	OTel *TracingOTel `json:"otel"`
}

// A TracingOTel is an OpenTelemetry collector of spans.
//
// +kubebuilder:validation:XValidation:rule="[has(self.grpcAddress), has(self.httpAddress), has(self.grpcService)].filter(x, x).size() == 1",message="set exactly one of grpcAddress, httpAddress and grpcService"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || (self.protocol == 'grpc') == !has(self.httpAddress)",message="protocol does not fit the address: grpc goes with grpcAddress and grpcService, http/protobuf and http/json with httpAddress"
type TracingOTel struct {
	// The collector's host:port, over gRPC. Exactly one of grpcAddress,
	// httpAddress and grpcService is set.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	GRPCAddress string `json:"grpcAddress,omitempty"`

	// The collector's host:port or URL, over HTTP. Without a path it gets
	// /v1/traces.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	HTTPAddress string `json:"httpAddress,omitempty"`

	// The collector by reference, over gRPC.
	// +optional
	GRPCService *TracingGRPCService `json:"grpcService,omitempty"`

	// The transport. Default: http/protobuf with httpAddress, else grpc.
	// +optional
	Protocol OTLPProtocol `json:"protocol,omitempty"`

	// The service.name of the resource. Default: GATEWAY.NAMESPACE.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ServiceName string `json:"serviceName,omitempty"`

	// Where attributes of the resource come from. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	ResourceDetectors []ResourceDetector `json:"resourceDetectors,omitempty"`

	// Who decides whether a request has a trace. Absent: the sampling of this
	// policy.
	// +optional
	Sampler *TracingSampler `json:"sampler,omitempty"`
}

// A TracingGRPCService is a collector by reference.
type TracingGRPCService struct {
	// The Service or Backend. Required.
	BackendRef BackendRef `json:"backendRef"`

	GRPCOptions `json:",inline"`
}

// A ResourceDetector says where attributes of a resource come from.
type ResourceDetector struct {
	// The variable OTEL_RESOURCE_ATTRIBUTES. Write
	// environmentResourceDetector: {}. Required.
	EnvironmentResourceDetector *EmptyDetector `json:"environmentResourceDetector"`
}

// An EmptyDetector has no settings.
type EmptyDetector struct{}

// A TracingSampler decides whether a request has a trace.
type TracingSampler struct {
	// Every request has one. Write alwaysOnConfig: {}. Required.
	AlwaysOnConfig *EmptyDetector `json:"alwaysOnConfig"`
}

// A TracingTag is the value of a span attribute, from one source.
//
// +kubebuilder:validation:XValidation:rule="[has(self.literal), has(self.environment), has(self.requestHeader), has(self.metadata)].filter(x, x).size() == 1",message="set exactly one of literal, environment, requestHeader and metadata"
type TracingTag struct {
	// A fixed value. Exactly one source is set.
	// +optional
	Literal *TagLiteral `json:"literal,omitempty"`

	// An environment variable of the gateway.
	// +optional
	Environment *TagSource `json:"environment,omitempty"`

	// A request header.
	// +optional
	RequestHeader *TagSource `json:"requestHeader,omitempty"`

	// A value of the dynamic metadata.
	// +optional
	Metadata *TagMetadata `json:"metadata,omitempty"`
}

// A TagLiteral is a fixed value.
type TagLiteral struct {
	// The value. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// A TagSource names a variable or header.
type TagSource struct {
	// The name. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// The value when there is none. Absent: the span has no such attribute.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	DefaultValue string `json:"defaultValue,omitempty"`
}

// A TagMetadataKind says whose metadata is meant.
//
// +kubebuilder:validation:Enum=Request;Route;Cluster;Host
type TagMetadataKind string

// The kinds of metadata.
const (
	TagMetadataRequest TagMetadataKind = "Request"
	TagMetadataRoute   TagMetadataKind = "Route"
	TagMetadataCluster TagMetadataKind = "Cluster"
	TagMetadataHost    TagMetadataKind = "Host"
)

// A TagMetadata is a value of the dynamic metadata: what authentication
// established under the keys jwt (or envoy.filters.http.jwt_authn, in
// jwt_payload) and apiKey, and what services tell of a request under extauthz and
// under their namespaces. Objects and lists are JSON. Envoy's own metadata is not
// there.
type TagMetadata struct {
	// Whose metadata. Only Request has any. Default: Request.
	// +optional
	// +kubebuilder:default=Request
	Kind TagMetadataKind `json:"kind,omitempty"`

	// Where the value stands. Required.
	MetadataKey MetadataKey `json:"metadataKey"`

	// The value when there is none. Absent: the span has no such attribute.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	DefaultValue string `json:"defaultValue,omitempty"`
}
