package telemetry

// Metrics are the Prometheus series of the gateway, on a registry of their own.
type Metrics struct{}
