package gateway

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/accesslog"
	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
)

// A logPlan is an access log of a Gateway, which gets its sink when its snapshot is served.
type logPlan struct {
	*accesslog.Log
	identity string // of the sink
	name     string // of the log, in metrics
	open     func(accesslog.Options) accesslog.Sink
}

// accessLogs compiles the access logs of a policy. One with a mistake, or that has nowhere to go, is left out.
func (c *compiler) accessLogs(o object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.AccessLog == nil {
		return nil
	}
	var plans []func(gateway types.NamespacedName) *logPlan
	for i := range s.AccessLog {
		if plan := c.accessLog(o, fmt.Sprintf("spec.accessLog[%d]", i), &s.AccessLog[i]); plan != nil {
			plans = append(plans, plan)
		}
	}
	return func(gateway types.NamespacedName, listeners []*openListener) {
		var logs []*logPlan
		for _, plan := range plans {
			logs = append(logs, plan(gateway))
		}
		for _, l := range listeners {
			l.edge.logs = logs
		}
	}
}

// accessLog compiles one access log; nil where nothing can be logged.
func (c *compiler) accessLog(o object, path string, spec *v1alpha1.AccessLog) func(types.NamespacedName) *logPlan {
	filter, header, ok := c.logFilter(o, path+".filter", spec.Filter)
	if !ok {
		return nil
	}
	var plan func(types.NamespacedName) *logPlan
	switch {
	case spec.FileSink != nil:
		plan = c.fileLog(o, path+".fileSink", spec.FileSink, filter)
	case spec.GRPCService != nil:
		plan = c.serviceLog(o, path+".grpcService", spec.GRPCService, filter)
	case spec.OTel != nil:
		plan = c.otelLog(o, path+".otel", spec.OTel, filter)
	}
	if plan == nil || !header {
		return plan
	}
	return func(gateway types.NamespacedName) *logPlan {
		p := plan(gateway)
		p.WithHeader()
		return p
	}
}

// addFormat reports what is wrong with a format.
func (c *compiler) addFormat(o object, path string, err error) {
	f := finding{class: config.Invalid, code: config.CodeFormat, help: "see the list of command operators in docs/telemetry.md"}
	var unknown *accesslog.OperatorError
	if errors.As(err, &unknown) {
		f.help = didYouMean(unknown.Name, accesslog.Operators(), f.help)
	}
	c.add(o, path, f, "%s", err)
}

func (c *compiler) fileLog(o object, path string, spec *v1alpha1.FileSink, filter accesslog.Filter) func(types.NamespacedName) *logPlan {
	var format *accesslog.Format
	var err error
	if spec.JSONFormat != nil {
		path += ".jsonFormat"
		format, err = accesslog.CompileJSON(spec.JSONFormat.Raw)
	} else {
		path += ".stringFormat"
		format, err = accesslog.CompileText(cmp.Or(spec.StringFormat, accesslog.DefaultText))
	}
	if err != nil {
		c.addFormat(o, path, err)
		return nil
	}
	return func(types.NamespacedName) *logPlan {
		return &logPlan{
			Log: accesslog.ToFile(format, filter), identity: "file " + spec.Path, name: spec.Path,
			open: func(opts accesslog.Options) accesslog.Sink { return accesslog.NewFile(spec.Path, opts) },
		}
	}
}

// Defaults of streams of logs.
const (
	defaultLogBackoff = time.Second
	maxLogBackoff     = 30 * time.Second
)

func (c *compiler) serviceLog(o object, path string, spec *v1alpha1.AccessLogGRPCService, filter accesslog.Filter) func(types.NamespacedName) *logPlan {
	service, key := c.logService(o, path, spec)
	if service == nil {
		return nil
	}
	settings := accesslog.Service{
		Name: spec.LogName, RequestHeaders: canonical(spec.AdditionalRequestHeadersToLog), ResponseHeaders: canonical(spec.AdditionalResponseHeadersToLog),
		ResponseTrailers: canonical(spec.AdditionalResponseTrailersToLog), Backoff: defaultLogBackoff, MostBackoff: maxLogBackoff, Tries: -1,
	}
	if r := spec.RetryPolicy; r != nil {
		settings.Tries = or(r.NumRetries, -1)
		if b := r.RetryBackOff; b != nil {
			settings.Backoff = cmp.Or(b.BaseInterval.Value(), settings.Backoff)
			settings.MostBackoff = max(cmp.Or(b.MaxInterval.Value(), 10*settings.Backoff), settings.Backoff)
		}
	}
	open := accesslog.OverStream(service, initialHeader(spec.InitialMetadata))
	return func(gateway types.NamespacedName) *logPlan {
		settings := settings
		settings.Node = gateway.Name + "." + gateway.Namespace
		return &logPlan{
			Log: accesslog.ToService(&settings, filter), identity: "service " + key + fingerprint(spec, settings.Node), name: spec.LogName,
			open: func(opts accesslog.Options) accesslog.Sink { return accesslog.NewStreamer(&settings, open, opts) },
		}
	}
}

func canonical(names []string) (out []string) {
	for _, n := range names {
		out = append(out, http.CanonicalHeaderKey(n))
	}
	return out
}

func initialHeader(list []v1alpha1.KeyValue) http.Header {
	h := http.Header{}
	for _, kv := range list {
		h.Add(kv.Key, kv.Value)
	}
	return h
}

// logService returns the gRPC service that logs go to, and what tells it apart, or reports why there is none.
func (c *compiler) logService(o object, path string, spec *v1alpha1.AccessLogGRPCService) (*extension.Service, string) {
	var to *reached
	switch {
	case spec.BackendRef != nil:
		to = c.service(o, path+".backendRef", spec.BackendRef)
	default:
		to = c.cluster(o, path+".staticClusterName", spec.StaticClusterName)
	}
	if to == nil {
		return nil, ""
	}
	pool := c.connected(to.conn, to.identity, upstream.H2C, to.addresses)
	return &extension.Service{
		RoundTripper: pool, Authority: cmp.Or(spec.Authority, to.authority), Timeout: cmp.Or(spec.Timeout.Value(), accesslog.ExportTimeout),
	}, fmt.Sprintf("%s %p ", to.identity, pool)
}

// cluster returns where the name of a service leads: to the Backend of type Static or else the Service of that name in the
// namespace of the policy, or to host:port.
func (c *compiler) cluster(o object, path, name string) *reached {
	at := types.NamespacedName{Namespace: o.name.Namespace, Name: name}
	if c.backends[at] != nil {
		return c.service(o, path, &v1alpha1.BackendRef{Kind: v1alpha1.KindBackend, Name: name})
	}
	if s := c.services[at]; s != nil {
		return c.service(o, path, &v1alpha1.BackendRef{Name: name, Port: grpcPort(s)})
	}
	if _, _, err := net.SplitHostPort(name); err == nil {
		return &reached{conn: new(connection), identity: "logs/" + name, addresses: []string{name}, authority: name}
	}
	candidates := append(names(c.backends, at.Namespace), names(c.services, at.Namespace)...)
	c.add(o, path, finding{
		class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "Invalid",
		help: didYouMean(name, candidates, "write the name of a Backend of type Static or a Service in namespace "+at.Namespace+", or host:port"),
	}, "there is no Backend or Service %q, and it is no host:port: nothing is logged there", name)
	return nil
}

// grpcPort returns the port of a Service that speaks gRPC: the first that says so, else the first.
func grpcPort(s *corev1.Service) int32 {
	for _, p := range s.Spec.Ports {
		if protocolOf(p.AppProtocol) == upstream.H2C {
			return p.Port
		}
	}
	if len(s.Spec.Ports) == 0 {
		return defaultServicePort
	}
	return s.Spec.Ports[0].Port
}

// defaultLogBody is the body of OpenTelemetry entries where the policy says none.
const defaultLogBody = `{"start_time":"%START_TIME%","method":"%REQ(:METHOD)%","path":"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%","protocol":"%PROTOCOL%","response_code":"%RESPONSE_CODE%",` +
	`"response_flags":"%RESPONSE_FLAGS%","bytes_received":"%BYTES_RECEIVED%","bytes_sent":"%BYTES_SENT%","duration":"%DURATION%","x_forwarded_for":"%REQ(X-FORWARDED-FOR)%",` +
	`"user_agent":"%REQ(USER-AGENT)%","request_id":"%REQ(X-REQUEST-ID)%","authority":"%REQ(:AUTHORITY)%","upstream_host":"%UPSTREAM_HOST%"}`

func (c *compiler) otelLog(o object, path string, spec *v1alpha1.AccessLogOTel, filter accesslog.Filter) func(types.NamespacedName) *logPlan {
	shape := accesslog.OTel{}
	var err error
	if spec.Body == "" {
		shape.Body, err = accesslog.CompileObject([]byte(defaultLogBody))
	} else {
		shape.Body, err = accesslog.CompileString(spec.Body)
	}
	if err != nil {
		c.addFormat(o, path+".body", err)
		return nil
	}
	if spec.Attributes != nil {
		for i, a := range spec.Attributes.Values {
			value, err := accesslog.CompileString(a.Value.StringValue)
			if err != nil {
				c.addFormat(o, fmt.Sprintf("%s.attributes.values[%d].value.stringValue", path, i), err)
				return nil
			}
			shape.Attributes = append(shape.Attributes, accesslog.Attribute{Name: a.Key, Value: value})
		}
	}
	shape.Name = "mcpgw"
	if spec.GRPCService != nil {
		shape.Name = spec.GRPCService.LogName
	}
	export, key := c.logCollector(o, path, spec)
	if export == nil {
		return nil
	}
	return func(gateway types.NamespacedName) *logPlan {
		shape := shape
		shape.Resource = map[string]string{}
		if !spec.DisableBuiltinLabels {
			shape.Resource["service.name"] = gateway.Name + "." + gateway.Namespace
			if spec.GRPCService != nil {
				shape.Resource["log_name"] = spec.GRPCService.LogName
			}
		}
		if spec.ResourceAttributes != nil {
			for _, a := range spec.ResourceAttributes.Values {
				shape.Resource[a.Key] = a.Value.StringValue
			}
		}
		return &logPlan{
			Log: accesslog.ToCollector(&shape, filter), identity: "otel " + key + fingerprint(spec, shape.Resource), name: cmp.Or(spec.Endpoint, shape.Name),
			open: func(opts accesslog.Options) accesslog.Sink { return accesslog.NewCollector(&shape, export, opts) },
		}
	}
}

// logCollector returns how entries are sent to a collector, nil where that was reported to be impossible.
func (c *compiler) logCollector(o object, path string, spec *v1alpha1.AccessLogOTel) (accesslog.Exporter, string) {
	if g := spec.GRPCService; g != nil {
		s, key := c.logService(o, path+".grpcService", g)
		if s == nil {
			return nil, ""
		}
		return accesslog.OverGRPC(s), key
	}
	text := spec.Endpoint
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, "" // Validate has refused it
	}
	conn := new(connection)
	port := cmp.Or(u.Port(), "80")
	if u.Scheme == "https" {
		port = cmp.Or(u.Port(), "443")
		conn.opts.TLS, conn.identity = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}, "tls"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	if spec.Protocol == "" || spec.Protocol == v1alpha1.OTLPGRPC {
		pool := c.connected(conn, "logs/"+address, upstream.H2C, []string{address})
		return accesslog.OverGRPC(&extension.Service{RoundTripper: pool, Authority: u.Host, Timeout: accesslog.ExportTimeout}), fmt.Sprintf("%p ", pool)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/logs"
	}
	pool := c.connected(conn, "logs/"+address, upstream.HTTP1, []string{address})
	return accesslog.OverHTTP(pool, u.String(), spec.Protocol == v1alpha1.OTLPHTTPJSON), fmt.Sprintf("%p ", pool)
}

// logFilter compiles a filter, nil for none. header says that it needs the header of the answer; ok is false where it has a mistake.
func (c *compiler) logFilter(o object, path string, spec *v1alpha1.AccessLogFilter) (f accesslog.Filter, header, ok bool) {
	if spec == nil {
		return nil, false, true
	}
	leaves, name, join := spec.AndFilter, "andFilter", accesslog.All
	if len(spec.OrFilter) > 0 {
		leaves, name, join = spec.OrFilter, "orFilter", accesslog.Any
	}
	if len(leaves) == 0 {
		return c.logTest(o, path, &spec.AccessLogTest)
	}
	var all []accesslog.Filter
	ok = true
	for i := range leaves {
		leaf, h, sound := c.logTest(o, fmt.Sprintf("%s.%s[%d]", path, name, i), &leaves[i].AccessLogTest)
		all = append(all, leaf)
		header, ok = header || h, ok && sound
	}
	return join(all), header, ok
}

func (c *compiler) logTest(o object, path string, t *v1alpha1.AccessLogTest) (f accesslog.Filter, header, ok bool) {
	switch {
	case t.StatusCodeFilter != nil:
		return accesslog.Status(comparison(t.StatusCodeFilter)), false, true
	case t.DurationFilter != nil:
		return accesslog.Took(comparison(t.DurationFilter)), false, true
	case t.NotHealthCheckFilter:
		return accesslog.NotHealthCheck(), false, true
	case t.TraceableFilter:
		return accesslog.Traced(), false, true
	case t.HeaderFilter != nil:
		h := t.HeaderFilter.Header
		test := func(v string) bool { return v == h.Value }
		if h.Type == v1alpha1.HeaderMatchRegularExpression {
			test = regexp.MustCompile(`^(?:` + h.Value + `)$`).MatchString // Validate has compiled it
		}
		return accesslog.RequestHeader(http.CanonicalHeaderKey(h.Name), test), false, true
	case t.ResponseFlagFilter != nil:
		return accesslog.Flagged(t.ResponseFlagFilter.Flags), false, c.knownFlags(o, path+".responseFlagFilter.flags", t.ResponseFlagFilter.Flags)
	case t.GRPCStatusFilter != nil:
		return accesslog.GRPCStatus(t.GRPCStatusFilter.Statuses, t.GRPCStatusFilter.Exclude), true, true
	default:
		v, err := policy.CompileValue(t.CELFilter.Match, true)
		if err != nil {
			c.addExpression(o, path+".celFilter.match", err)
			return nil, false, false
		}
		return accesslog.Condition(v), false, true
	}
}

// knownFlags reports flags that there are not.
func (c *compiler) knownFlags(o object, path string, flags []string) bool {
	all := true
	for i, f := range flags {
		if !contains(accesslog.Flags(), f) {
			all = false
			c.add(o, fmt.Sprintf("%s[%d]", path, i), finding{class: config.Invalid, code: config.CodeFormat, help: didYouMean(f, accesslog.Flags(), "write one of Envoy's response flags, such as NR, UF or UT")},
				"there is no response flag %q", f)
		}
	}
	return all
}

func comparison(f *v1alpha1.ComparisonFilter) accesslog.Comparison {
	switch f.Op {
	case v1alpha1.ComparisonGE:
		return accesslog.GE(f.Value)
	case v1alpha1.ComparisonLE:
		return accesslog.LE(f.Value)
	case v1alpha1.ComparisonEQ:
	}
	return accesslog.EQ(f.Value)
}
