package v1alpha1

// AIClocks bound how long the providers of an [AIBackend] may take. Each attempt
// has its own; timeouts.request of the route bounds all of them together.
type AIClocks struct {
	// How long a connection to a provider, and its handshake, may take: 1ms to
	// 1m. Default: 5s.
	// +optional
	Connect Duration `json:"connect,omitempty"`

	// How long a provider may take to the first content of a stream, from when
	// the request is sent: 1ms to 1h. Then the next provider is asked. Default:
	// 2m.
	// +optional
	FirstContent Duration `json:"firstContent,omitempty"`

	// How long a stream may be silent after its first content: 1ms to 1h. Then
	// it ends with an error. Realtime sessions end when neither side sends
	// anything for as long. Default: 2m, and 15m for realtime sessions.
	// +optional
	Idle Duration `json:"idle,omitempty"`

	// How long an answer that is not streamed may take, from when the request
	// is sent: 1ms to 24h. Default: 10m.
	// +optional
	Total Duration `json:"total,omitempty"`
}
