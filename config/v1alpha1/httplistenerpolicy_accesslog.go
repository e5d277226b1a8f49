package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// An AccessLog is a place where each request is logged. It never holds up a
// request: a place that is too slow loses entries, which are counted.
//
// +kubebuilder:validation:XValidation:rule="[has(self.fileSink), has(self.grpcService), has(self.otel)].filter(x, x).size() == 1",message="set exactly one of fileSink, grpcService and otel"
type AccessLog struct {
	// A file. Exactly one of fileSink, grpcService and otel is set.
	// +optional
	FileSink *FileSink `json:"fileSink,omitempty"`

	// A gRPC service envoy.service.accesslog.v3.AccessLogService.
	// +optional
	GRPCService *AccessLogGRPCService `json:"grpcService,omitempty"`

	// An OpenTelemetry collector.
	// +optional
	OTel *AccessLogOTel `json:"otel,omitempty"`

	// Which requests are logged. Absent: all.
	// +optional
	Filter *AccessLogFilter `json:"filter,omitempty"`
}

// A FileSink logs to a file, a line a request.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.stringFormat) && has(self.jsonFormat))",message="set stringFormat or jsonFormat, not both"
type FileSink struct {
	// The file, which is appended to; /dev/stdout and /dev/stderr are the
	// gateway's own. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Path string `json:"path"`

	// The line, with command operators such as %REQ(:PATH)%. Default: Envoy's
	// default format, unless jsonFormat is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	StringFormat string `json:"stringFormat,omitempty"`

	// The line as a JSON object, whose strings may hold command operators. A
	// string that is one operator keeps its type: a number stays a number.
	// Absent: stringFormat.
	// +optional
	// +kubebuilder:validation:Type=object
	JSONFormat *apiextensionsv1.JSON `json:"jsonFormat,omitempty"`
}

// An AccessLogGRPCService logs to a gRPC service.
//
// +kubebuilder:validation:XValidation:rule="has(self.staticClusterName) != has(self.backendRef)",message="set exactly one of staticClusterName and backendRef"
type AccessLogGRPCService struct {
	// The name of the log in the stream. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	LogName string `json:"logName"`

	// The service by name: a Backend of type Static or else a Service of that
	// name in the policy's namespace, or else host:port. Exactly one of
	// staticClusterName and backendRef is set.
	// +optional
	// +kubebuilder:validation:MaxLength=260
	StaticClusterName string `json:"staticClusterName,omitempty"`

	// The service by reference.
	// +optional
	BackendRef *BackendRef `json:"backendRef,omitempty"`

	GRPCOptions `json:",inline"`

	// Request headers to log beside the usual ones. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AdditionalRequestHeadersToLog []string `json:"additionalRequestHeadersToLog,omitempty"`

	// Response headers to log. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AdditionalResponseHeadersToLog []string `json:"additionalResponseHeadersToLog,omitempty"`

	// Response trailers to log. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AdditionalResponseTrailersToLog []string `json:"additionalResponseTrailersToLog,omitempty"`
}

// GRPCOptions say how a gRPC service that takes logs or spans is reached.
type GRPCOptions struct {
	// The :authority to send. Default: the host and port of the service.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Authority string `json:"authority,omitempty"`

	// How long a send may take. Default: 5s.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// Metadata that opens the stream. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	InitialMetadata []KeyValue `json:"initialMetadata,omitempty"`

	// The largest message that is received, in bytes. Default: 4194304.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxReceiveMessageLength int32 `json:"maxReceiveMessageLength,omitempty"`

	// Whether the x-envoy-* headers are left out of the stream. Default: false.
	// +optional
	SkipEnvoyHeaders bool `json:"skipEnvoyHeaders,omitempty"`

	// When the stream is opened again. Default: after 1s, doubled with each try.
	// +optional
	RetryPolicy *AccessLogRetryPolicy `json:"retryPolicy,omitempty"`
}

// A KeyValue is a key and a value.
type KeyValue struct {
	// The key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`

	// The value. Default: empty.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}

// An AccessLogRetryPolicy says when a stream is opened again.
type AccessLogRetryPolicy struct {
	// How long to wait. Default: 1s, doubled with each try.
	// +optional
	RetryBackOff *ExtServiceBackoff `json:"retryBackOff,omitempty"`

	// How often to try, 0 to 1000. Default: without end.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	NumRetries *int32 `json:"numRetries,omitempty"`
}

// An OTLPProtocol is a transport of the OpenTelemetry protocol.
//
// +kubebuilder:validation:Enum=grpc;http/protobuf;http/json
type OTLPProtocol string

// The transports of OTLP.
const (
	OTLPGRPC         OTLPProtocol = "grpc"
	OTLPHTTPProtobuf OTLPProtocol = "http/protobuf"
	OTLPHTTPJSON     OTLPProtocol = "http/json"
)

// An AccessLogOTel logs to an OpenTelemetry collector.
//
// +kubebuilder:validation:XValidation:rule="has(self.endpoint) != has(self.grpcService)",message="set exactly one of endpoint and grpcService"
// +kubebuilder:validation:XValidation:rule="!has(self.grpcService) || !has(self.protocol) || self.protocol == 'grpc'",message="grpcService speaks grpc: remove protocol, or use endpoint"
type AccessLogOTel struct {
	// The collector, as host:port or URL; https means TLS. An HTTP endpoint
	// without a path gets /v1/logs. Exactly one of endpoint and grpcService is
	// set.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Endpoint string `json:"endpoint,omitempty"`

	// The transport. Default: grpc.
	// +optional
	Protocol OTLPProtocol `json:"protocol,omitempty"`

	// The collector by reference, over gRPC.
	// +optional
	GRPCService *AccessLogGRPCService `json:"grpcService,omitempty"`

	// The body of an entry, with command operators. Default: the default
	// fields, as JSON.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Body string `json:"body,omitempty"`

	// Whether the usual attributes of the log and its resource are left out.
	// Default: false.
	// +optional
	DisableBuiltinLabels bool `json:"disableBuiltinLabels,omitempty"`

	// Attributes of each entry, whose values may hold command operators.
	// Default: none.
	// +optional
	Attributes *OTelAttributes `json:"attributes,omitempty"`

	// Attributes of the resource. Default: service.name, GATEWAY.NAMESPACE.
	// +optional
	ResourceAttributes *OTelAttributes `json:"resourceAttributes,omitempty"`
}

// OTelAttributes are keys and values.
type OTelAttributes struct {
	// The attributes, at most 64. Required.
	// +kubebuilder:validation:MaxItems=64
	Values []OTelAttribute `json:"values"`
}

// An OTelAttribute is a key and value.
type OTelAttribute struct {
	// The key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`

	// The value. Required.
	Value OTelAnyValue `json:"value"`
}

// An OTelAnyValue is a value.
type OTelAnyValue struct {
	// The value as a string, which may hold command operators. Required.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	StringValue string `json:"stringValue,omitempty"`
}

// An AccessLogFilter says which requests are logged: by one test, or by all
// (andFilter) or any (orFilter) of at least two.
//
// +kubebuilder:validation:XValidation:rule="[has(self.statusCodeFilter), has(self.durationFilter), has(self.notHealthCheckFilter), has(self.traceableFilter), has(self.headerFilter), has(self.responseFlagFilter), has(self.grpcStatusFilter), has(self.celFilter), has(self.andFilter), has(self.orFilter)].filter(x, x).size() == 1",message="set exactly one filter; to combine several, use andFilter or orFilter"
type AccessLogFilter struct {
	AccessLogTest `json:",inline"`

	// All of these must be true; at least two.
	// +optional
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=16
	AndFilter []AccessLogLeafFilter `json:"andFilter,omitempty"`

	// One of these must be true; at least two.
	// +optional
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=16
	OrFilter []AccessLogLeafFilter `json:"orFilter,omitempty"`
}

// An AccessLogLeafFilter is one test within andFilter or orFilter.
//
// +kubebuilder:validation:XValidation:rule="[has(self.statusCodeFilter), has(self.durationFilter), has(self.notHealthCheckFilter), has(self.traceableFilter), has(self.headerFilter), has(self.responseFlagFilter), has(self.grpcStatusFilter), has(self.celFilter)].filter(x, x).size() == 1",message="set exactly one filter"
type AccessLogLeafFilter struct {
	AccessLogTest `json:",inline"`
}

// An AccessLogTest is one test of a request.
type AccessLogTest struct {
	// The status of the response, compared with a number.
	// +optional
	StatusCodeFilter *ComparisonFilter `json:"statusCodeFilter,omitempty"`

	// The time that the request took, in milliseconds, compared with a number.
	// +optional
	DurationFilter *ComparisonFilter `json:"durationFilter,omitempty"`

	// Whether the request is no health check. Only true has a meaning.
	// +optional
	NotHealthCheckFilter bool `json:"notHealthCheckFilter,omitempty"`

	// Whether the request is traced. Only true has a meaning.
	// +optional
	TraceableFilter bool `json:"traceableFilter,omitempty"`

	// A request header.
	// +optional
	HeaderFilter *HeaderFilter `json:"headerFilter,omitempty"`

	// The response flags.
	// +optional
	ResponseFlagFilter *ResponseFlagFilter `json:"responseFlagFilter,omitempty"`

	// The gRPC status.
	// +optional
	GRPCStatusFilter *GRPCStatusFilter `json:"grpcStatusFilter,omitempty"`

	// A CEL expression.
	// +optional
	CELFilter *CELFilter `json:"celFilter,omitempty"`
}

// A ComparisonOp compares a number with a limit.
//
// +kubebuilder:validation:Enum=EQ;GE;LE
type ComparisonOp string

// The comparisons.
const (
	ComparisonEQ ComparisonOp = "EQ"
	ComparisonGE ComparisonOp = "GE"
	ComparisonLE ComparisonOp = "LE"
)

// A ComparisonFilter compares a number with a limit.
type ComparisonFilter struct {
	// EQ: equal. GE: at least. LE: at most. Required.
	Op ComparisonOp `json:"op"`

	// The number to compare with, at least 0. Required.
	// +kubebuilder:validation:Minimum=0
	Value int64 `json:"value"`
}

// A HeaderFilter tests a request header.
type HeaderFilter struct {
	// The header and how to compare it. Required.
	Header HeaderMatch `json:"header"`
}

// A ResponseFlagFilter tests the response flags.
type ResponseFlagFilter struct {
	// The flags, such as NR or UF, of which one is enough. Required, at least
	// one.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Flags []string `json:"flags"`
}

// A GRPCStatusFilter tests the gRPC status.
type GRPCStatusFilter struct {
	// The statuses, such as UNAVAILABLE, of which one is enough. Required, at
	// least one.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=17
	// +kubebuilder:validation:items:Enum=OK;CANCELED;UNKNOWN;INVALID_ARGUMENT;DEADLINE_EXCEEDED;NOT_FOUND;ALREADY_EXISTS;PERMISSION_DENIED;RESOURCE_EXHAUSTED;FAILED_PRECONDITION;ABORTED;OUT_OF_RANGE;UNIMPLEMENTED;INTERNAL;UNAVAILABLE;DATA_LOSS;UNAUTHENTICATED
	Statuses []string `json:"statuses"`

	// Whether the listed statuses are those that are not logged. Default:
	// false.
	// +optional
	Exclude bool `json:"exclude,omitempty"`
}

// A CELFilter tests a CEL expression.
type CELFilter struct {
	// The expression, which yields a bool. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Match string `json:"match"`
}
