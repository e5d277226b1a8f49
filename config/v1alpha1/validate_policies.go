package v1alpha1

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns every mistake in h but those within command operators and CEL
// expressions, which are parsed where they are used.
func (h *HTTPListenerPolicy) Validate() field.ErrorList { return validate(KindHTTPListenerPolicy, h) }

func (h *HTTPListenerPolicy) rules() field.ErrorList {
	p, s := field.NewPath("spec"), &h.Spec
	errs := targetRules(KindHTTPListenerPolicy, s.TargetRefs, s.TargetSelectors, []string{"Gateway"}, []string{"Gateway"})
	for i, r := range s.TargetRefs {
		if r.SectionName != "" {
			errs = append(errs, field.Forbidden(p.Child("targetRefs").Index(i).Child("sectionName"), "an HTTPListenerPolicy covers whole Gateways: remove it"))
		}
	}
	for i, r := range s.TargetSelectors {
		if r.SectionName != "" {
			errs = append(errs, field.Forbidden(p.Child("targetSelectors").Index(i).Child("sectionName"), "an HTTPListenerPolicy covers whole Gateways: remove it"))
		}
	}
	for i := range s.AccessLog {
		errs = append(errs, s.AccessLog[i].rules(p.Child("accessLog").Index(i))...)
	}
	if s.Tracing != nil {
		errs = append(errs, s.Tracing.rules(p.Child("tracing"))...)
	}
	if s.DefaultHostForHTTP10 != "" && s.AcceptHTTP10 != nil && !*s.AcceptHTTP10 {
		errs = append(errs, field.Forbidden(p.Child("defaultHostForHttp10"), "is of no use with acceptHttp10: false"))
	}
	return errs
}

func (a *AccessLog) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"fileSink", a.FileSink != nil}, choice{"grpcService", a.GRPCService != nil}, choice{"otel", a.OTel != nil})
	if f := a.FileSink; f != nil {
		errs = append(errs, atMostOne(p.Child("fileSink"), choice{"stringFormat", f.StringFormat != ""}, choice{"jsonFormat", f.JSONFormat != nil})...)
	}
	if a.GRPCService != nil {
		errs = append(errs, a.GRPCService.rules(p.Child("grpcService"))...)
	}
	if o := a.OTel; o != nil {
		at := p.Child("otel")
		errs = append(errs, exactlyOne(at, choice{"endpoint", o.Endpoint != ""}, choice{"grpcService", o.GRPCService != nil})...)
		errs = append(errs, endpoint(at.Child("endpoint"), o.Endpoint)...)
		if o.GRPCService != nil {
			errs = append(errs, o.GRPCService.rules(at.Child("grpcService"))...)
			if o.Protocol != "" && o.Protocol != OTLPGRPC {
				errs = append(errs, field.Invalid(at.Child("protocol"), string(o.Protocol), "grpcService speaks grpc: remove protocol, or use endpoint"))
			}
		}
	}
	if f := a.Filter; f != nil {
		at := p.Child("filter")
		errs = append(errs, exactlyOne(at, append(f.choices(), choice{"andFilter", len(f.AndFilter) > 0}, choice{"orFilter", len(f.OrFilter) > 0})...)...)
		errs = append(errs, f.AccessLogTest.rules(at)...)
		for i := range f.AndFilter {
			errs = append(errs, f.AndFilter[i].rules(at.Child("andFilter").Index(i))...)
		}
		for i := range f.OrFilter {
			errs = append(errs, f.OrFilter[i].rules(at.Child("orFilter").Index(i))...)
		}
	}
	return errs
}

func (g *AccessLogGRPCService) rules(p *field.Path) field.ErrorList {
	return exactlyOne(p, choice{"staticClusterName", g.StaticClusterName != ""}, choice{"backendRef", g.BackendRef != nil})
}

// choices returns which tests of t are set, in the order of the type.
func (t *AccessLogTest) choices() []choice {
	return []choice{
		{"statusCodeFilter", t.StatusCodeFilter != nil}, {"durationFilter", t.DurationFilter != nil},
		{"notHealthCheckFilter", t.NotHealthCheckFilter}, {"traceableFilter", t.TraceableFilter},
		{"headerFilter", t.HeaderFilter != nil}, {"responseFlagFilter", t.ResponseFlagFilter != nil},
		{"grpcStatusFilter", t.GRPCStatusFilter != nil}, {"celFilter", t.CELFilter != nil},
	}
}

func (f *AccessLogLeafFilter) rules(p *field.Path) field.ErrorList {
	return append(exactlyOne(p, f.choices()...), f.AccessLogTest.rules(p)...)
}

func (t *AccessLogTest) rules(p *field.Path) field.ErrorList {
	if t.HeaderFilter == nil {
		return nil
	}
	return t.HeaderFilter.Header.rules(p.Child("headerFilter", "header"))
}

// endpoint reports what is neither host:port nor an http or https URL.
func endpoint(p *field.Path, e string) field.ErrorList {
	if e == "" {
		return nil
	}
	if strings.Contains(e, "://") {
		u, err := url.Parse(e)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(p, e, "must be host:port or an http or https URL, without user and password")}
	}
	name, port, err := net.SplitHostPort(e)
	if err != nil || name == "" {
		return field.ErrorList{field.Invalid(p, e, "must be host:port, such as collector:4317, or a URL")}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return field.ErrorList{field.Invalid(p, e, "must end in a port between 1 and 65535")}
	}
	return nil
}

func (t *Tracing) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if o := t.Provider.OTel; o != nil {
		at := p.Child("provider", "otel")
		errs = append(errs, exactlyOne(at, choice{"grpcAddress", o.GRPCAddress != ""}, choice{"httpAddress", o.HTTPAddress != ""}, choice{"grpcService", o.GRPCService != nil})...)
		errs = append(errs, endpoint(at.Child("grpcAddress"), o.GRPCAddress)...)
		errs = append(errs, endpoint(at.Child("httpAddress"), o.HTTPAddress)...)
		if o.Protocol != "" && (o.Protocol == OTLPGRPC) == (o.HTTPAddress != "") {
			errs = append(errs, field.Invalid(at.Child("protocol"), string(o.Protocol),
				"does not fit the address: grpc goes with grpcAddress and grpcService, http/protobuf and http/json go with httpAddress"))
		}
	}
	for name, tag := range t.Tags {
		errs = append(errs, exactlyOne(p.Child("tags", name), choice{"literal", tag.Literal != nil}, choice{"environment", tag.Environment != nil},
			choice{"requestHeader", tag.RequestHeader != nil}, choice{"metadata", tag.Metadata != nil})...)
	}
	for i, f := range t.Propagators {
		if f == PropagatorNone && len(t.Propagators) > 1 {
			errs = append(errs, field.Invalid(p.Child("propagators").Index(i), string(f), "stands alone: remove it, or the others"))
		}
	}
	return errs
}

// Validate returns every mistake in b.
func (b *BackendConfigPolicy) Validate() field.ErrorList { return validate(KindBackendConfigPolicy, b) }

func (b *BackendConfigPolicy) rules() field.ErrorList {
	p, s := field.NewPath("spec"), &b.Spec
	kinds := []string{"Service", "Backend"}
	errs := targetRules(KindBackendConfigPolicy, s.TargetRefs, s.TargetSelectors, kinds, kinds)
	errs = append(errs, endpointRules(p, s.LoadBalancer, s.OutlierDetection, s.TCPKeepalive)...)
	errs = append(errs, atLeast(p.Child("connectTimeout"), s.ConnectTimeout, time.Millisecond)...)
	if t := s.TLS; t != nil {
		at := p.Child("tls")
		errs = append(errs, exactlyOne(at, choice{"secretRef", t.SecretRef != nil}, choice{"files", t.Files != nil},
			choice{"wellKnownCACertificates", t.WellKnownCACertificates != ""}, choice{"insecureSkipVerify", t.InsecureSkipVerify != nil})...)
		if t.InsecureSkipVerify != nil && len(t.VerifySubjectAltNames) > 0 {
			errs = append(errs, field.Forbidden(at.Child("verifySubjectAltNames"), "has no effect with insecureSkipVerify: remove one of them"))
		}
		if f := t.Files; f != nil {
			if (f.TLSCertificate == "") != (f.TLSKey == "") {
				errs = append(errs, field.Required(at.Child("files"), "set tlsCertificate and tlsKey together"))
			}
			errs = append(errs, atLeastOne(at.Child("files"), "", choice{"rootCA", f.RootCA != ""}, choice{"tlsCertificate", f.TLSCertificate != ""})...)
		}
		if v := t.Parameters; v != nil && v.MinVersion != "" && v.MaxVersion != "" && v.MinVersion != TLSAuto && v.MaxVersion != TLSAuto && v.MinVersion > v.MaxVersion {
			errs = append(errs, field.Invalid(at.Child("parameters", "maxVersion"), string(v.MaxVersion), "must not be below minVersion, which is "+string(v.MinVersion)))
		}
	}
	if h := s.HealthCheck; h != nil {
		at := p.Child("healthCheck")
		errs = append(errs, exactlyOne(at, choice{"http", h.HTTP != nil}, choice{"grpc", h.GRPC != nil})...)
		errs = append(errs, atLeast(at.Child("timeout"), h.Timeout, time.Millisecond)...)
		errs = append(errs, atLeast(at.Child("interval"), h.Interval, time.Millisecond)...)
	}
	return errs
}

// endpointRules reports mistakes in what Backend and BackendConfigPolicy share.
func endpointRules(p *field.Path, l *LoadBalancer, o *OutlierDetection, k *TCPKeepalive) field.ErrorList {
	var errs field.ErrorList
	if l != nil {
		errs = append(errs, l.rules(p.Child("loadBalancer"))...)
	}
	if o != nil {
		at := p.Child("outlierDetection")
		errs = append(errs, atLeast(at.Child("interval"), o.Interval, time.Millisecond)...)
		errs = append(errs, atLeast(at.Child("baseEjectionTime"), o.BaseEjectionTime, time.Millisecond)...)
	}
	if k != nil {
		at := p.Child("tcpKeepalive")
		errs = append(errs, atLeast(at.Child("time"), k.Time, time.Second)...)
		errs = append(errs, atLeast(at.Child("interval"), k.Interval, time.Second)...)
	}
	return errs
}

func (l *LoadBalancer) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	hashes := l.Type == LoadBalancerRingHash || l.Type == LoadBalancerMaglev
	if len(l.HashPolicy) > 0 && !hashes {
		errs = append(errs, field.Forbidden(p.Child("hashPolicy"), "works with type RingHash or Maglev only"))
	}
	if l.ChoiceCount != 0 && l.Type != "" && l.Type != LoadBalancerLeastRequest {
		errs = append(errs, field.Forbidden(p.Child("choiceCount"), "works with type LeastRequest only"))
	}
	for _, c := range []choice{{"minimumRingSize", l.MinimumRingSize != 0}, {"maximumRingSize", l.MaximumRingSize != 0}} {
		if c.set && l.Type != LoadBalancerRingHash {
			errs = append(errs, field.Forbidden(p.Child(c.name), "works with type RingHash only"))
		}
	}
	if l.MinimumRingSize > l.MaximumRingSize && l.MaximumRingSize != 0 {
		errs = append(errs, field.Invalid(p.Child("minimumRingSize"), l.MinimumRingSize, "must not be more than maximumRingSize"))
	}
	if s := l.SlowStart; s != nil {
		at := p.Child("slowStart")
		if l.Type != "" && l.Type != LoadBalancerRoundRobin && l.Type != LoadBalancerLeastRequest {
			errs = append(errs, field.Forbidden(at, "works with type RoundRobin or LeastRequest only"))
		}
		errs = append(errs, atLeast(at.Child("window"), s.Window, time.Millisecond)...)
		if f, err := strconv.ParseFloat(s.Aggression, 64); s.Aggression != "" && (err != nil || f <= 0) {
			errs = append(errs, field.Invalid(at.Child("aggression"), s.Aggression, "must be a decimal number above 0, such as 1.5"))
		}
	}
	for i, h := range l.HashPolicy {
		errs = append(errs, exactlyOne(p.Child("hashPolicy").Index(i), choice{"header", h.Header != nil}, choice{"cookie", h.Cookie != nil}, choice{"sourceIP", h.SourceIP != nil})...)
	}
	return errs
}

// Validate returns every mistake in d.
func (d *DirectResponse) Validate() field.ErrorList { return validate(KindDirectResponse, d) }

// rules has nothing to add to the schema.
func (d *DirectResponse) rules() field.ErrorList { return nil }

// Validate returns every mistake in g.
func (g *GatewayParameters) Validate() field.ErrorList { return validate(KindGatewayParameters, g) }

func (g *GatewayParameters) rules() field.ErrorList {
	errs := exactlyOne(field.NewPath("spec"), choice{"kube", g.Spec.Kube != nil}, choice{"selfManaged", g.Spec.SelfManaged != nil})
	if g.Spec.Kube == nil {
		return errs
	}
	p := field.NewPath("spec", "kube")
	if b := g.Spec.Kube.PodDisruptionBudget; b != nil {
		errs = append(errs, exactlyOne(p.Child("podDisruptionBudget", "spec"), choice{"minAvailable", b.Spec.MinAvailable != nil}, choice{"maxUnavailable", b.Spec.MaxUnavailable != nil})...)
	}
	if a := g.Spec.Kube.HorizontalPodAutoscaler; a != nil && a.Spec.MinReplicas != nil && *a.Spec.MinReplicas > a.Spec.MaxReplicas {
		errs = append(errs, field.Invalid(p.Child("horizontalPodAutoscaler", "spec", "minReplicas"), *a.Spec.MinReplicas, "must not be greater than maxReplicas"))
	}
	return errs
}

// Validate returns every mistake in g.
func (g *GatewayExtension) Validate() field.ErrorList { return validate(KindGatewayExtension, g) }

func (g *GatewayExtension) rules() field.ErrorList {
	p, s := field.NewPath("spec"), &g.Spec
	errs := exactlyOne(p, choice{"extAuth", s.ExtAuth != nil}, choice{"extProc", s.ExtProc != nil}, choice{"rateLimit", s.RateLimit != nil})
	type block = struct{ name, t string }
	if a := s.ExtAuth; a != nil {
		at := p.Child("extAuth")
		errs = append(errs, typed(p, string(s.Type), block{"extAuth", string(ExtensionExtAuth)})...)
		errs = append(errs, exactlyOne(at, choice{"grpcService", a.GRPCService != nil}, choice{"httpService", a.HTTPService != nil})...)
		errs = append(errs, a.GRPCService.rules(at.Child("grpcService"))...)
		errs = append(errs, headerNames(at.Child("headersToForward"), a.HeadersToForward)...)
		if h := a.HTTPService; h != nil {
			errs = append(errs, h.rules(at.Child("httpService"))...)
		}
	}
	if e := s.ExtProc; e != nil {
		at := p.Child("extProc")
		errs = append(errs, typed(p, string(s.Type), block{"extProc", string(ExtensionExtProc)})...)
		errs = append(errs, e.GRPCService.rules(at.Child("grpcService"))...)
		errs = append(errs, atLeast(at.Child("messageTimeout"), e.MessageTimeout, time.Millisecond)...)
	}
	if r := s.RateLimit; r != nil {
		at := p.Child("rateLimit")
		errs = append(errs, typed(p, string(s.Type), block{"rateLimit", string(ExtensionRateLimit)})...)
		errs = append(errs, r.GRPCService.rules(at.Child("grpcService"))...)
		errs = append(errs, atLeast(at.Child("timeout"), r.Timeout, time.Millisecond)...)
	}
	return errs
}

func (s *ExtHTTPService) rules(p *field.Path) field.ErrorList {
	errs := atLeast(p.Child("requestTimeout"), s.RequestTimeout, time.Millisecond)
	if q := s.AuthorizationRequest; q != nil {
		at := p.Child("authorizationRequest", "headersToAdd")
		for _, name := range slices.Sorted(maps.Keys(q.HeadersToAdd)) {
			errs = append(errs, headerName(at.Key(name), name)...)
			if !httpguts.ValidHeaderFieldValue(q.HeadersToAdd[name]) {
				errs = append(errs, field.Invalid(at.Key(name), field.OmitValueType{}, "must be a value that HTTP permits: no line breaks or control characters"))
			}
		}
	}
	if a := s.AuthorizationResponse; a != nil {
		at := p.Child("authorizationResponse")
		errs = append(errs, headerNames(at.Child("headersToBackend"), a.HeadersToBackend)...)
		errs = append(errs, headerNames(at.Child("headersToClientOnSuccess"), a.HeadersToClientOnSuccess)...)
		errs = append(errs, headerNames(at.Child("headersToClientOnDenied"), a.HeadersToClientOnDenied)...)
	}
	return errs
}

func (s *ExtGRPCService) rules(p *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	return atLeast(p.Child("requestTimeout"), s.RequestTimeout, time.Millisecond)
}
