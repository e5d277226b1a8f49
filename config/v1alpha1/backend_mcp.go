package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An MCPBackend shows several MCP servers, its targets, to clients as one: one
// URL and one catalogue of tools, prompts and resources.
type MCPBackend struct {
	// The MCP servers, 1 to 32, each under a name of its own. Required.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Targets []MCPTarget `json:"targets"`

	// When the names of tools and prompts carry their target's, as
	// TARGET_NAME. Always: adding a target never renames a tool. Conditional:
	// bare names while there is one target. Never: bare names; a name that two
	// targets share is left out, with a problem. It governs resource URIs
	// likewise. Default: Always.
	// +optional
	// +kubebuilder:default=Always
	PrefixMode MCPPrefixMode `json:"prefixMode,omitempty"`

	// The longest name that clients see, 16 to 64 characters. A longer one is
	// cut and closed with a hash, the same in every process. Default: 48, so
	// that the mcp__SERVER__ that a client puts in front still fits into 64.
	// +optional
	// +kubebuilder:default=48
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=64
	MaxNameLength int32 `json:"maxNameLength,omitempty"`

	// What a list answers when a target fails. FailOpen: what the other
	// targets have. FailClosed: an error. Default: FailOpen.
	// +optional
	// +kubebuilder:default=FailOpen
	FailureMode MCPFailureMode `json:"failureMode,omitempty"`

	// Browser origins, such as https://app.example.com, that may call the
	// endpoint; others are answered 403. Requests without an Origin header
	// are not concerned. Default: the endpoint's own origin and, on a loopback
	// listener, loopback origins.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`

	// Client headers that every target gets beside the trace context,
	// Accept-Language and Mcp-Param-*. A session belongs to the values that it
	// was opened with. Authorization and cookies can't be listed: use auth on
	// the target. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	ForwardHeaders []string `json:"forwardHeaders,omitempty"`
}

// An MCPPrefixMode says when client-visible names carry their target's.
//
// +kubebuilder:validation:Enum=Always;Conditional;Never
type MCPPrefixMode string

// The prefix modes.
const (
	MCPPrefixAlways      MCPPrefixMode = "Always"
	MCPPrefixConditional MCPPrefixMode = "Conditional"
	MCPPrefixNever       MCPPrefixMode = "Never"
)

// An MCPFailureMode says what a list answers when a target fails.
//
// +kubebuilder:validation:Enum=FailOpen;FailClosed
type MCPFailureMode string

// The failure modes.
const (
	MCPFailOpen   MCPFailureMode = "FailOpen"
	MCPFailClosed MCPFailureMode = "FailClosed"
)

// An MCPTarget is one MCP server, or the servers that a selector finds.
//
// +kubebuilder:validation:XValidation:rule="[has(self.service), has(self.static), has(self.selector), has(self.stdio)].filter(x, x).size() == 1",message="set exactly one of service, static, selector and stdio"
type MCPTarget struct {
	// The name of the target: lower-case letters, digits, - and ., beginning
	// and ending with a letter or digit, at most 253. It stands in front of the
	// names of tools, and is mcp.tool.target in expressions. Required, unique.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`

	// A port of a Service. Exactly one of service, static, selector and stdio
	// is set.
	// +optional
	Service *MCPServiceTarget `json:"service,omitempty"`

	// A host and port.
	// +optional
	Static *MCPStaticTarget `json:"static,omitempty"`

	// All Services with certain labels: each port whose appProtocol is
	// kgateway.dev/mcp or kgateway.dev/mcp-sse becomes a target named
	// SERVICE-PORT.
	// +optional
	Selector *MCPSelectorTarget `json:"selector,omitempty"`

	// A program on this machine that speaks MCP on its standard input and
	// output. From local files only: refused from Kubernetes.
	// +optional
	Stdio *MCPStdioTarget `json:"stdio,omitempty"`

	// The credential that the target gets, as a bearer token. Absent: none;
	// the client's Authorization header is never sent to a target unless kind
	// is Passthrough.
	// +optional
	Auth *AuthToken `json:"auth,omitempty"`

	// How long the target may take to initialize and to answer a list, before
	// the others answer without it. Calls of tools are not concerned. Default:
	// 5s.
	// +optional
	// +kubebuilder:default="5s"
	Timeout Duration `json:"timeout,omitempty"`
}

// An MCPProtocol is a transport of MCP over HTTP.
//
// +kubebuilder:validation:Enum=StreamableHTTP;SSE
type MCPProtocol string

// The transports of MCP over HTTP.
const (
	MCPStreamableHTTP MCPProtocol = "StreamableHTTP"
	MCPSSE            MCPProtocol = "SSE"
)

// An MCPServiceTarget is an MCP server behind a port of a Service.
type MCPServiceTarget struct {
	// The name of the Service. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// The namespace of the Service. Default: the Backend's. Another namespace
	// has to permit it by a ReferenceGrant.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// The port of the Service, 1 to 65535. Required.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// The path of the MCP endpoint. Default: the Service's annotation
	// kgateway.dev/mcp-path, else /mcp for StreamableHTTP and /sse for SSE.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path,omitempty"`

	// The transport. Default: SSE when the port's appProtocol is
	// kgateway.dev/mcp-sse, else StreamableHTTP.
	// +optional
	Protocol MCPProtocol `json:"protocol,omitempty"`
}

// An MCPStaticTarget is an MCP server at a fixed host and port.
type MCPStaticTarget struct {
	// An IP address or DNS name, without port. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host"`

	// The port, 1 to 65535. Required. Port 443 does not imply TLS: see tls.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// The path of the MCP endpoint. Default: /mcp for StreamableHTTP, /sse for
	// SSE.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path,omitempty"`

	// The transport. Default: StreamableHTTP.
	// +optional
	Protocol MCPProtocol `json:"protocol,omitempty"`

	// Reaches the server by https, and checks its certificate. Write tls: {} for
	// a public server. Absent: plain http.
	// +optional
	TLS *MCPTargetTLS `json:"tls,omitempty"`
}

// An MCPTargetTLS says how a server is reached by https.
type MCPTargetTLS struct {
	// The name to ask for (SNI) and to find in the certificate. Default: host.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Hostname string `json:"hostname,omitempty"`

	// A Secret in the Backend's namespace whose key ca.crt holds the authorities to
	// trust, in PEM. Default: those of the system.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`
}

// An MCPSelectorTarget finds MCP servers by the labels of their Services. The
// set is live: as Services come and go, so do targets.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespace) || has(self.service)",message="set namespace or service, or both"
type MCPSelectorTarget struct {
	// The namespaces to look in. Absent: the Backend's own only. Empty: all.
	// +optional
	Namespace *metav1.LabelSelector `json:"namespace,omitempty"`

	// The Services to take. Absent or empty: all in those namespaces.
	// +optional
	Service *metav1.LabelSelector `json:"service,omitempty"`
}

// An MCPStdioSharing says which calls may share one child process.
//
// +kubebuilder:validation:Enum=Caller;Session
type MCPStdioSharing string

// The ways to share a child process.
const (
	MCPStdioCaller  MCPStdioSharing = "Caller"
	MCPStdioSession MCPStdioSharing = "Session"
)

// An MCPStdioTarget is a program that speaks MCP, one message a line, on its
// standard input and output. At most 32 children of a target run at a time; one
// that is idle for 10 minutes is ended.
type MCPStdioTarget struct {
	// The program: a path, or a name that is looked up in PATH. No shell reads
	// it. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Command string `json:"command"`

	// Its arguments, passed as they are. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	Args []string `json:"args,omitempty"`

	// Environment variables beside the few that every child gets (PATH, HOME
	// and the like). Values are treated as secrets. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=256
	Env map[string]Sensitive `json:"env,omitempty"`

	// The directory to run it in, relative to the file that names it. Default:
	// the directory of that file.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Cwd string `json:"cwd,omitempty"`

	// Who shares a child. Caller: all sessions of one caller with the same
	// credentials and client capabilities. Session: nobody, each session has
	// its own. Default: Caller.
	// +optional
	// +kubebuilder:default=Caller
	Sharing MCPStdioSharing `json:"sharing,omitempty"`
}
