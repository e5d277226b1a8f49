package v1alpha1

// A RateLimit limits the number of requests: in this process (local), by a
// service that all processes ask (global), or as rateLimits says. Local limits
// are asked first. What is over the limit is answered 429.
//
// +kubebuilder:validation:XValidation:rule="has(self.local) || has(self.global) || has(self.rateLimits)",message="set local, global or rateLimits: nothing would be limited"
type RateLimit struct {
	// A limit that each gateway process keeps for itself. Write local: {} to
	// switch off what a less specific policy sets.
	// +optional
	Local *LocalRateLimit `json:"local,omitempty"`

	// A limit that a rate limit service keeps.
	// +optional
	Global *GlobalRateLimit `json:"global,omitempty"`

	// Limits written as actions, each item one descriptor. An item with limit
	// is kept by the process, one without by the rate limit service of
	// extensionRef.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	RateLimits []RateLimitItem `json:"rateLimits,omitempty"`

	// The GatewayExtension of type RateLimit that rateLimits asks. Default: the
	// only one in the policy's namespace; where there are none or several, the
	// policy is invalid.
	// +optional
	ExtensionRef *ExtensionRef `json:"extensionRef,omitempty"`
}

// A LocalRateLimit is a limit that one process keeps.
type LocalRateLimit struct {
	// The bucket that requests take tokens from, one for each place that the
	// policy is attached to, shared by all clients. Absent: no limit.
	// +optional
	TokenBucket *TokenBucket `json:"tokenBucket,omitempty"`
}

// A TokenBucket lets a request through for each token that it holds. It starts
// full.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tokensPerFill) || self.tokensPerFill <= self.maxTokens",message="tokensPerFill must not be more than maxTokens"
// +kubebuilder:validation:XValidation:rule="duration(self.fillInterval) >= duration('50ms')",message="fillInterval must be at least 50ms"
type TokenBucket struct {
	// How many tokens the bucket can hold: the largest burst. At least 1.
	// Required.
	// +kubebuilder:validation:Minimum=1
	MaxTokens int32 `json:"maxTokens"`

	// How many tokens each fillInterval adds, 1 to maxTokens. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	TokensPerFill int32 `json:"tokensPerFill,omitempty"`

	// How often tokens are added, at least 50ms. Required.
	FillInterval Duration `json:"fillInterval"`
}

// A GlobalRateLimit asks a rate limit service.
type GlobalRateLimit struct {
	// What the service is asked about, at least one. A descriptor with an entry
	// that has no value, such as an absent header, is left out; with none left
	// the service is not asked. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Descriptors []RateLimitDescriptor `json:"descriptors"`

	// The GatewayExtension of type RateLimit. Required.
	ExtensionRef ExtensionRef `json:"extensionRef"`
}

// A RateLimitDescriptor is one question to the rate limit service.
type RateLimitDescriptor struct {
	// The entries of the descriptor, in order, at least one. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Entries []RateLimitEntry `json:"entries"`

	// What is counted. Requests: each is one. Tokens: the input and output tokens of
	// language models, which are counted once the answer has ended; before, the
	// service is asked whether the limit is exceeded. Default: Requests.
	// +optional
	// +kubebuilder:default=Requests
	Unit RateLimitCount `json:"unit,omitempty"`
}

// A RateLimitCount says what a limit counts.
//
// +kubebuilder:validation:Enum=Requests;Tokens
type RateLimitCount string

// What limits count.
const (
	RateLimitRequests RateLimitCount = "Requests"
	RateLimitTokens   RateLimitCount = "Tokens"
)

// A RateLimitEntryType says where the value of an entry comes from.
//
// +kubebuilder:validation:Enum=Generic;Header;RemoteAddress;Path
type RateLimitEntryType string

// The types of entries.
const (
	RateLimitGeneric       RateLimitEntryType = "Generic"
	RateLimitHeader        RateLimitEntryType = "Header"
	RateLimitRemoteAddress RateLimitEntryType = "RemoteAddress"
	RateLimitPath          RateLimitEntryType = "Path"
)

// A RateLimitEntry is a key and value of a [RateLimitDescriptor].
//
// +kubebuilder:validation:XValidation:rule="has(self.type) || has(self.generic) != has(self.header)",message="set type"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || has(self.generic) == (self.type == 'Generic')",message="type Generic needs generic, and no other type has it"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || has(self.header) == (self.type == 'Header')",message="type Header needs header, and no other type has it"
type RateLimitEntry struct {
	// Where the value comes from. Generic: generic. Header: the header, whose
	// name is the key. RemoteAddress: the client's address, under the key
	// remote_address. Path: the path, under the key path. Default: Generic or
	// Header when that field is set.
	// +optional
	Type RateLimitEntryType `json:"type,omitempty"`

	// A fixed key and value. With type Generic only.
	// +optional
	Generic *RateLimitGenericEntry `json:"generic,omitempty"`

	// The name of the header. With type Header only.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Header string `json:"header,omitempty"`
}

// A RateLimitGenericEntry is a fixed key and value.
type RateLimitGenericEntry struct {
	// The key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`

	// The value. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// A RateLimitItem is one descriptor, made by actions.
type RateLimitItem struct {
	// The actions that make the entries of the descriptor, in order, at least
	// one. If one of them has no value, the descriptor is left out. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Actions []RateLimitAction `json:"actions"`

	// A limit that each gateway process keeps for each distinct descriptor, of
	// which it remembers the 16,384 that were used last. Absent: the rate limit
	// service keeps it.
	// +optional
	Limit *RateLimitInline `json:"limit,omitempty"`
}

// A RateLimitUnit is the time that a [RateLimitInline] counts in.
//
// +kubebuilder:validation:Enum=Second;Minute;Hour;Day
type RateLimitUnit string

// The units of time.
const (
	RateLimitSecond RateLimitUnit = "Second"
	RateLimitMinute RateLimitUnit = "Minute"
	RateLimitHour   RateLimitUnit = "Hour"
	RateLimitDay    RateLimitUnit = "Day"
)

// A RateLimitInline is a limit without a service.
type RateLimitInline struct {
	// How many requests a unit lets through, at least 1. Units begin with the
	// clock's, in UTC. Required.
	// +kubebuilder:validation:Minimum=1
	RequestsPerUnit int32 `json:"requestsPerUnit"`

	// The unit of time. Required.
	Unit RateLimitUnit `json:"unit"`
}

// A RateLimitAction makes one entry of a descriptor.
//
// +kubebuilder:validation:XValidation:rule="[has(self.genericKey), has(self.requestHeaders), has(self.remoteAddress), has(self.headerValueMatch), has(self.sourceCluster), has(self.destinationCluster), has(self.metadata), has(self.path), has(self.type) || has(self.generic) || has(self.header)].filter(x, x).size() == 1",message="set exactly one kind of action"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || has(self.generic) == (self.type == 'Generic')",message="type Generic needs generic, and no other type has it"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || has(self.header) == (self.type == 'Header')",message="type Header needs header, and no other type has it"
type RateLimitAction struct {
	// A fixed value. Exactly one kind of action is set.
	// +optional
	GenericKey *GenericKeyAction `json:"genericKey,omitempty"`

	// The value of a header.
	// +optional
	RequestHeaders *RequestHeadersAction `json:"requestHeaders,omitempty"`

	// The client's address, under the key remote_address. Write
	// remoteAddress: {}.
	// +optional
	RemoteAddress *EmptyAction `json:"remoteAddress,omitempty"`

	// A fixed value, if headers match.
	// +optional
	HeaderValueMatch *HeaderValueMatchAction `json:"headerValueMatch,omitempty"`

	// The name of the Gateway, under the key source_cluster. Write
	// sourceCluster: {}.
	// +optional
	SourceCluster *EmptyAction `json:"sourceCluster,omitempty"`

	// The name of the backend, under the key destination_cluster. Write
	// destinationCluster: {}.
	// +optional
	DestinationCluster *EmptyAction `json:"destinationCluster,omitempty"`

	// What is known of the client (its token or API key, what the service of extAuth tells)
	// or of the MCP operation.
	// +optional
	Metadata *MetadataAction `json:"metadata,omitempty"`

	// The path, under the key path. Write path: {}.
	// +optional
	Path *EmptyAction `json:"path,omitempty"`

	// An action written as an entry of global descriptors is: its type.
	// +optional
	Type RateLimitEntryType `json:"type,omitempty"`

	// A fixed key and value. With type Generic only.
	// +optional
	Generic *RateLimitGenericEntry `json:"generic,omitempty"`

	// The name of the header. With type Header only.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Header string `json:"header,omitempty"`
}

// An EmptyAction is an action without settings.
type EmptyAction struct{}

// A GenericKeyAction makes an entry of a fixed value.
type GenericKeyAction struct {
	// The value. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	DescriptorValue string `json:"descriptorValue"`

	// The key. Default: generic_key.
	// +optional
	// +kubebuilder:default=generic_key
	// +kubebuilder:validation:MaxLength=1024
	DescriptorKey string `json:"descriptorKey,omitempty"`
}

// A RequestHeadersAction makes an entry of a header's value.
type RequestHeadersAction struct {
	// The name of the header. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	HeaderName string `json:"headerName"`

	// The key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	DescriptorKey string `json:"descriptorKey"`

	// Whether an absent header leaves out only this entry. Default: false, it
	// leaves out the descriptor.
	// +optional
	SkipIfAbsent bool `json:"skipIfAbsent,omitempty"`
}

// A HeaderValueMatchAction makes an entry if headers match.
type HeaderValueMatchAction struct {
	// The value, under the key header_match. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	DescriptorValue string `json:"descriptorValue"`

	// Whether the headers must match (true) or must not. Default: true.
	// +optional
	// +kubebuilder:default=true
	ExpectMatch *bool `json:"expectMatch,omitempty"`

	// The headers, all of which count, at least one. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Headers []RateLimitHeaderMatch `json:"headers"`
}

// A RateLimitHeaderMatch matches a header. Without a matcher it asks whether the
// header is there.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exactMatch), has(self.regexMatch), has(self.prefixMatch), has(self.suffixMatch), has(self.presentMatch)].filter(x, x).size() <= 1",message="set at most one matcher"
type RateLimitHeaderMatch struct {
	// The name of the header. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// The whole value.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	ExactMatch string `json:"exactMatch,omitempty"`

	// A regular expression, in RE2 syntax, for the whole value.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	RegexMatch string `json:"regexMatch,omitempty"`

	// The beginning of the value.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	PrefixMatch string `json:"prefixMatch,omitempty"`

	// The end of the value.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	SuffixMatch string `json:"suffixMatch,omitempty"`

	// Whether the header is there. Default: true when no matcher is set.
	// +optional
	PresentMatch *bool `json:"presentMatch,omitempty"`

	// Whether to turn the result round. Default: false.
	// +optional
	InvertMatch bool `json:"invertMatch,omitempty"`
}

// A MetadataAction makes an entry of what is known of the client or of the MCP
// operation. With key mcp only operations are counted, such as tools/call, and
// not the other requests of a session.
type MetadataAction struct {
	// The key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	DescriptorKey string `json:"descriptorKey"`

	// Where the value stands. Required.
	MetadataKey MetadataKey `json:"metadataKey"`

	// The value when there is none. Absent: the descriptor is left out.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	DefaultValue string `json:"defaultValue,omitempty"`
}

// A MetadataKey says what is known of whom: jwt and the path to a claim; apiKey
// and id or the path to a member of its metadata; extauthz and the path to what the
// service of extAuth tells; mcp and method, or tool, prompt
// or resource and then name or target, as rbac has them: mcp.tool.name.
type MetadataKey struct {
	// Where the value stands: jwt, apiKey, extauthz (or envoy.filters.http.ext_authz) or
	// mcp. Others are not served: what the policy covers answers 500. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`

	// The keys that lead to the value, outermost first. Default: none, which
	// leads to no value.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Path []MetadataPathSegment `json:"path,omitempty"`
}

// A MetadataPathSegment is one step of a [MetadataKey].
type MetadataPathSegment struct {
	// The key to step into. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`
}
