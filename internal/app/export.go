package app

import (
	"log/slog"
	"os"

	"go.opentelemetry.io/otel"

	"github.com/mcpgw/mcpgw/telemetry"
)

// An export is what the variables OTEL_* have the process send to a collector. The zero
// export sends nothing.
type export struct {
	environment telemetry.Environment
	tracer      *telemetry.Tracer // of Gateways without a tracing policy; nil is none
}

// exportTelemetry reads the variables and begins to export. stop sends what waits.
func exportTelemetry(opts ServeOptions) (e export, stop func(), err error) {
	if e.environment, err = telemetry.ReadEnvironment(os.Getenv, opts.Version); err != nil {
		return export{}, nil, err
	}
	// What the libraries can tell nobody else goes to the log.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		opts.Logger.Warn("exporting telemetry", slog.Any("error", err))
	}))
	if e.environment.Tracer != nil {
		if e.tracer, err = telemetry.NewTracer(*e.environment.Tracer, opts.Logger); err != nil {
			return export{}, nil, err
		}
	}
	return e, func() {
		if err := e.tracer.Close(); err != nil {
			opts.Logger.Warn("the last spans were not sent", slog.Any("error", err))
		}
	}, nil
}
