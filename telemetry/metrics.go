package telemetry

// Metrics are the Prometheus series of the gateway, on a registry of their own.
type Metrics struct{}

// CELError counts an evaluation that failed.
func (m *Metrics) CELError(source string) {}
