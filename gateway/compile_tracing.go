package gateway

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A tracerPlan is the tracer of a listener, made when its snapshot is served.
type tracerPlan struct {
	identity string
	cfg      telemetry.TracerConfig
}

// trace has all listeners of a Gateway traced.
func (c *compiler) trace(gateway types.NamespacedName, cfg telemetry.TracerConfig) {
	if cfg.Service == "" {
		cfg.Service = gateway.Name + "." + gateway.Namespace
	}
	hash := sha256.New()
	_ = json.NewEncoder(hash).Encode(cfg) // into a hash, of plain data
	plan := &tracerPlan{hex.EncodeToString(hash.Sum(nil)), cfg}
	for _, l := range c.listeners {
		if l.of == gateway {
			l.traced = plan
		}
	}
}

// tracer compiles a tracing block; ok is false when spans would go nowhere.
func (c *compiler) tracer(o object, t *v1alpha1.Tracing) (cfg telemetry.TracerConfig, ok bool) {
	otel := t.Provider.OTel
	cfg = telemetry.TracerConfig{
		Service: otel.ServiceName, Version: c.rt.version(), MaxPath: int(t.MaxPathTagLength), Calls: t.SpawnUpstreamSpan, Verbose: t.Verbose,
		Sampler: samplerOf(t),
	}
	if len(t.Propagators) == 0 {
		cfg.Propagators = []telemetry.Propagator{telemetry.W3CTraceContext}
	}
	for _, p := range t.Propagators {
		switch p {
		case v1alpha1.PropagatorW3CTraceContext:
			cfg.Propagators = append(cfg.Propagators, telemetry.W3CTraceContext)
		case v1alpha1.PropagatorB3SingleHeader:
			cfg.Propagators = append(cfg.Propagators, telemetry.B3Single)
		case v1alpha1.PropagatorB3, v1alpha1.PropagatorB3MultiHeader:
			cfg.Propagators = append(cfg.Propagators, telemetry.B3Multi)
		case v1alpha1.PropagatorW3CBaggage, v1alpha1.PropagatorNone: // baggage passes in any case
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Tags)) {
		if tag, ok := c.tag(o, name, t.Tags[name]); ok {
			cfg.Tags = append(cfg.Tags, tag)
		}
	}
	for _, d := range otel.ResourceDetectors {
		if d.EnvironmentResourceDetector != nil {
			cfg.Resource = c.rt.resource()
		}
	}
	cfg.Collector, ok = c.collector(o, "spec.tracing.provider.otel", otel)
	return cfg, ok
}

// samplerOf returns who has spans. The overall share bounds the other two, and samples
// by the same number of the trace: so the smaller counts.
func samplerOf(t *v1alpha1.Tracing) telemetry.Sampler {
	if s := t.Provider.OTel.Sampler; s != nil && s.AlwaysOnConfig != nil {
		return telemetry.Sampler{Always: true}
	}
	root, client, overall := 100.0, 100.0, 100.0
	if t.SamplingRate != nil {
		root = *t.SamplingRate
	}
	if t.ClientSampling != nil {
		client = float64(*t.ClientSampling)
	}
	if t.OverallSampling != nil {
		overall = float64(*t.OverallSampling)
	}
	return telemetry.Sampler{Root: min(root, overall) / 100, Client: min(client, overall) / 100}
}

// tag compiles one tag; ok is false for one that has no value.
func (c *compiler) tag(o object, name string, t v1alpha1.TracingTag) (tag telemetry.Tag, ok bool) {
	path := "spec.tracing.tags." + name
	switch {
	case t.Literal != nil:
		return telemetry.Tag{Name: name, Value: t.Literal.Value}, true
	case t.Environment != nil:
		value := cmp.Or(os.Getenv(t.Environment.Name), t.Environment.DefaultValue)
		return telemetry.Tag{Name: name, Value: value}, value != ""
	case t.RequestHeader != nil:
		if !telemetry.MayTag(t.RequestHeader.Name) {
			c.add(o, path+".requestHeader.name", finding{
				class: config.Warning, code: config.CodeUnused, help: "name a header that holds no credential",
			}, "the header %s may hold a credential: spans have no tag %q", t.RequestHeader.Name, name)
			return telemetry.Tag{}, false
		}
		return telemetry.Tag{Name: name, Header: t.RequestHeader.Name, Value: t.RequestHeader.DefaultValue}, true
	case t.Metadata != nil:
		return c.metadataTag(o, path+".metadata", name, t.Metadata)
	default:
		return telemetry.Tag{}, false
	}
}

// metadataTag compiles a tag from what is known of each request; ok is false for one that has no value.
func (c *compiler) metadataTag(o object, path, name string, m *v1alpha1.TagMetadata) (tag telemetry.Tag, ok bool) {
	tag = telemetry.Tag{Name: name, Value: m.DefaultValue}
	switch {
	case m.Kind != "" && m.Kind != v1alpha1.TagMetadataRequest:
		c.add(o, path+".kind", finding{class: config.Warning, code: config.CodeUnused, help: "write Request, or a tag with a literal"},
			"routes, clusters and hosts have no metadata: spans have the default value, if there is one")
	case len(m.MetadataKey.Path) == 0:
		c.add(o, path+".metadataKey.path", finding{class: config.Warning, code: config.CodeUnused, help: "name a member"},
			"a path that is empty leads to no value: spans have the default value, if there is one")
	default:
		tag.Namespace = m.MetadataKey.Key
		for _, k := range m.MetadataKey.Path {
			tag.Path = append(tag.Path, k.Key)
		}
		return tag, true
	}
	return tag, tag.Value != ""
}

// collector returns where spans go; ok is false when that is not known.
func (c *compiler) collector(o object, path string, otel *v1alpha1.TracingOTel) (to telemetry.Collector, ok bool) {
	if otel.Protocol == v1alpha1.OTLPHTTPJSON {
		c.add(o, path+".protocol", finding{class: config.Warning, code: config.CodeUnserved, help: "write http/protobuf"},
			"http/json is not served: spans are sent as http/protobuf, which collectors take at the same address")
	}
	switch {
	case otel.GRPCAddress != "":
		return telemetry.Collector{GRPC: []string{otel.GRPCAddress}}, true
	case otel.HTTPAddress != "":
		return httpCollector(otel.HTTPAddress)
	default:
		return c.grpcCollector(o, path+".grpcService.backendRef", otel.GRPCService)
	}
}

// httpCollector returns the collector at host:port or a URL, which was checked before.
func httpCollector(address string) (to telemetry.Collector, ok bool) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return to, false
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return telemetry.Collector{HTTP: u.String()}, true
}

// grpcCollector returns the collector that is referred to.
func (c *compiler) grpcCollector(o object, path string, spec *v1alpha1.TracingGRPCService) (to telemetry.Collector, ok bool) {
	ref := spec.BackendRef
	name := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, o.name.Namespace), Name: ref.Name}
	kind, group := cmp.Or(ref.Kind, "Service"), ""
	if kind == v1alpha1.KindBackend {
		group = v1alpha1.GroupName
	}
	grant := reference{from: v1alpha1.KindHTTPListenerPolicy, fromGroup: v1alpha1.GroupName, to: kind, toGroup: group}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return to, false
	}
	to = telemetry.Collector{Authority: spec.Authority, Timeout: spec.Timeout.Value()}
	for _, kv := range spec.InitialMetadata {
		if to.Headers == nil {
			to.Headers = map[string]string{}
		}
		to.Headers[kv.Key] = kv.Value
	}
	if kind == v1alpha1.KindBackend {
		b := c.backends[name]
		if b == nil || b.Spec.Static == nil {
			c.add(o, path+".name", finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "BackendNotFound"},
				"there is no static Backend %q: spans are not sent", name.Name)
			return to, false
		}
		c.routed[name] = true // it is of use, though not to requests
		for _, h := range b.Spec.Static.Hosts {
			to.GRPC = append(to.GRPC, hostPort(h.Host, h.Port))
		}
		return to, true
	}
	s, port := c.servicePort(o, path, name, cmp.Or(ref.Port, 80))
	if port == nil {
		return to, false
	}
	addresses, ok := c.endpoints(o, path, s, port)
	if !ok || len(addresses) == 0 {
		return to, false
	}
	to.GRPC = addresses
	if to.Authority == "" {
		to.Authority = fmt.Sprintf("%s.%s.svc:%d", s.Name, s.Namespace, port.Port)
	}
	return to, true
}
