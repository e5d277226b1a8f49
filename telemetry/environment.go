package telemetry

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// An Environment is what the standard variables say about the export of telemetry
// (OpenTelemetry specification, Environment Variables). The zero Environment
// exports nothing.
type Environment struct {
	// Tracer is where spans of listeners without a tracing policy go; nil is
	// nowhere.
	Tracer *TracerConfig
	// Metrics is how metrics are pushed, beside being scraped; 0 is not at all.
	Metrics Protocol
	// Service and Resource name the resource.
	Service  string
	Resource map[string]string
	// InferenceUsage says that the newest series for generative AI are wanted.
	InferenceUsage bool
}

// ReadEnvironment reads the variables by getenv, as [os.Getenv]. Spans and metrics are
// exported when OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER say otlp, or say nothing
// and there is an endpoint for them: nobody who sets nothing is connected to. version
// is the gateway's.
func ReadEnvironment(getenv func(string) string, version string) (Environment, error) {
	env := Environment{Service: "mcpgw"}
	for _, s := range strings.Split(getenv("OTEL_SEMCONV_STABILITY_OPT_IN"), ",") {
		env.InferenceUsage = env.InferenceUsage || strings.TrimSpace(s) == "gen_ai_latest_experimental"
	}
	if disabled, _ := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); disabled {
		return Environment{InferenceUsage: env.InferenceUsage}, nil
	}
	var err error
	if env.Resource, err = pairs(getenv("OTEL_RESOURCE_ATTRIBUTES")); err != nil {
		return Environment{}, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if s := env.Resource["service.name"]; s != "" {
		env.Service = s
		delete(env.Resource, "service.name")
	}
	if s := getenv("OTEL_SERVICE_NAME"); s != "" {
		env.Service = s
	}
	if env.Metrics, err = exported(getenv, "METRICS"); err != nil {
		return Environment{}, err
	}
	protocol, err := exported(getenv, "TRACES")
	if err != nil || protocol == 0 {
		return env, err
	}
	t := &TracerConfig{
		Collector: Collector{Environment: protocol}, Service: env.Service, Version: version, Resource: env.Resource, Calls: true,
	}
	if t.Sampler, err = samplerOf(getenv("OTEL_TRACES_SAMPLER"), getenv("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return Environment{}, err
	}
	if t.Propagators, err = propagatorsOf(getenv("OTEL_PROPAGATORS")); err != nil {
		return Environment{}, err
	}
	env.Tracer = t
	return env, nil
}

// exported returns how a signal, TRACES or METRICS, is exported; 0 is not at all.
func exported(getenv func(string) string, signal string) (Protocol, error) {
	name := "OTEL_" + signal + "_EXPORTER"
	switch exporter := strings.TrimSpace(getenv(name)); exporter {
	case "otlp":
	case "none":
		return 0, nil
	case "":
		if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") == "" {
			return 0, nil
		}
	default:
		return 0, fmt.Errorf("%s: %q is not served, use otlp or none", name, exporter)
	}
	name = "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	protocol := getenv(name)
	if protocol == "" {
		name = "OTEL_EXPORTER_OTLP_PROTOCOL"
		protocol = getenv(name)
	}
	switch protocol {
	case "grpc":
		return OverGRPC, nil
	case "", "http/protobuf":
		return OverHTTP, nil
	default:
		return 0, fmt.Errorf("%s: %q is not served, use grpc or http/protobuf", name, protocol)
	}
}

// samplerOf returns the sampler of that name; default is parentbased_always_on.
func samplerOf(name, arg string) (Sampler, error) {
	ratio := 1.0
	if strings.HasSuffix(name, "traceidratio") && arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || ratio < 0 || ratio > 1 {
			return Sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is no number from 0 to 1", arg)
		}
	}
	switch name {
	case "", "parentbased_always_on":
		return Sampler{Root: 1, Client: 1}, nil
	case "parentbased_always_off":
		return Sampler{Client: 1}, nil
	case "parentbased_traceidratio":
		return Sampler{Root: ratio, Client: 1}, nil
	case "always_on":
		return Sampler{Always: true}, nil
	case "always_off":
		return Sampler{Alone: true}, nil
	case "traceidratio":
		return Sampler{Root: ratio, Alone: true}, nil
	default:
		return Sampler{}, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is not served, use always_on, always_off, traceidratio, or one of them after parentbased_", name)
	}
}

// propagatorsOf returns the propagators of a list; default is tracecontext,baggage.
func propagatorsOf(list string) ([]Propagator, error) {
	if list == "" {
		list = "tracecontext,baggage"
	}
	var out []Propagator
	for name := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(name) {
		case "tracecontext":
			out = append(out, W3CTraceContext)
		case "b3":
			out = append(out, B3Single)
		case "b3multi":
			out = append(out, B3Multi)
		case "baggage", "": // passes in any case
		case "none":
			return nil, nil
		default:
			return nil, fmt.Errorf("OTEL_PROPAGATORS: %q is not served, use tracecontext, baggage, b3, b3multi or none", strings.TrimSpace(name))
		}
	}
	return out, nil
}

// pairs returns a list of key=value, whose values are percent-encoded.
func pairs(list string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || key == "" || err != nil {
			return nil, fmt.Errorf("%q is not key=value, percent-encoded", strings.TrimSpace(pair))
		}
		out[key] = decoded
	}
	return out, nil
}
