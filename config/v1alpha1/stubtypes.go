package v1alpha1

// These are replaced by one file a kind.
type (
	Backend             struct{}
	TrafficPolicy       struct{}
	HTTPListenerPolicy  struct{}
	GatewayParameters   struct{}
	DirectResponse      struct{}
	GatewayExtension    struct{}
	BackendConfigPolicy struct{}
)
