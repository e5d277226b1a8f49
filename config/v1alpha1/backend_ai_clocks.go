package v1alpha1

// AIClocks bound how long the providers of an [AIBackend] may take. Each attempt
// has its own; timeouts.request of the route bounds all of them together.
type AIClocks struct {
	// How long a connection to a provider, and its handshake, may take: 1ms to
	// 1m. Default: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1m')",message="connect must be 1ms to 1m"
	Connect Duration `json:"connect,omitempty"`

	// How long a provider may take to the first content of a stream, from when
	// the request is sent: 1ms to 1h. Then the next provider is asked. Default:
	// 2m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="firstContent must be 1ms to 1h"
	FirstContent Duration `json:"firstContent,omitempty"`

	// How long a stream may be silent after its first content: 1ms to 1h. Then
	// it ends with an error. Realtime sessions end when neither side sends
	// anything for as long. Default: 2m, and 15m for realtime sessions.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="idle must be 1ms to 1h"
	Idle Duration `json:"idle,omitempty"`

	// How long an answer that is not streamed may take, from when the request
	// is sent: 1ms to 24h. Default: 10m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="total must be 1ms to 24h"
	Total Duration `json:"total,omitempty"`
}
