package telemetry

import (
	"context"
	"fmt"

	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Push sends what m counts to a collector, by OTLP, each OTEL_METRIC_EXPORT_INTERVAL (a minute
// by default) until ctx ends, and once more then. The names are those that Prometheus scrapes.
func (m *Metrics) Push(ctx context.Context, env Environment, version string) error {
	var exporter sdkmetric.Exporter
	var err error
	switch env.Metrics {
	case OverGRPC:
		exporter, err = otlpmetricgrpc.New(ctx)
	case OverHTTP:
		exporter, err = otlpmetrichttp.New(ctx)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("setting up the export of metrics: %w", err)
	}
	reader := sdkmetric.NewPeriodicReader(exporter,
		sdkmetric.WithProducer(prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(m.registry))))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader),
		sdkmetric.WithResource(newResource(&TracerConfig{Service: env.Service, Version: version, Resource: env.Resource})))
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportWait)
	defer cancel()
	if err := provider.Shutdown(end); err != nil {
		return fmt.Errorf("sending the last metrics: %w", err)
	}
	return nil
}
