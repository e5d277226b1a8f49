package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
)

// compileBackendRefs compiles what a rule sends requests to.
func (c *compiler) compileBackendRefs(o object, path string, spec *gatewayv1.HTTPRouteRule, cr *compiledRule) {
	rule := &cr.rule
	terminal := rule.redirect != nil || rule.direct != nil
	switch {
	case len(spec.BackendRefs) > 0 && rule.redirect != nil:
		c.incompatible(o, path+".backendRefs", rule, "a rule with a RequestRedirect has no backendRefs")
	case len(spec.BackendRefs) > 0 && terminal:
		c.add(o, path+".backendRefs", finding{class: config.Warning, code: config.CodeUnused, help: "remove the backendRefs"},
			"the DirectResponse answers all requests of the rule: its backendRefs get none")
	case len(spec.BackendRefs) == 0 && !terminal && rule.fault == nil:
		c.add(o, path, finding{class: config.Warning, code: config.CodeNoBackend, help: "add backendRefs"},
			"the rule has nothing to send requests to, so it answers 500")
	}
	for i := range spec.BackendRefs {
		ref := &spec.BackendRefs[i]
		at := fmt.Sprintf("%s.backendRefs[%d]", path, i)
		w := weighted{weight: 1}
		if ref.Weight != nil {
			w.weight = int(*ref.Weight)
		}
		w.to = c.resolve(o, at, &ref.BackendObjectReference)
		served := true
		for j := range ref.Filters {
			if !c.compileFilter(o, fmt.Sprintf("%s.filters[%d]", at, j), &ref.Filters[j], &w.filters, cr) {
				served = false
			}
		}
		if !served {
			w.to = &destination{name: w.to.name, fault: misconfigured}
		}
		if w.weight > 0 {
			rule.backends = append(rule.backends, w)
			rule.total += w.weight
		}
	}
}

// nowhere is the destination of a reference that leads nowhere.
func nowhere(name types.NamespacedName) *destination {
	return &destination{name: name.String(), fault: misconfigured}
}

// resolve returns the destination of a backend reference of a route.
func (c *compiler) resolve(o object, path string, ref *gatewayv1.BackendObjectReference) *destination {
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		name.Namespace = string(*ref.Namespace)
	}
	kind, group := "Service", ""
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if !(kind == "Service" && group == "") && !(kind == v1alpha1.KindBackend && group == v1alpha1.GroupName) {
		help := "use kind Service, or kind Backend with group " + v1alpha1.GroupName
		if kind == v1alpha1.KindBackend {
			help = "write group: " + v1alpha1.GroupName
		}
		c.add(o, path+".kind", finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "InvalidKind", help: help},
			"requests can't be sent to kind %s of group %q", kind, group)
		return nowhere(name)
	}
	if kind == v1alpha1.KindBackend {
		c.routed[name] = true
	}
	grant := reference{from: o.kind, fromGroup: gatewayv1.GroupName, to: kind, toGroup: group}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return nowhere(name)
	}
	if kind == "Service" {
		return c.resolveService(o, path, name, ref.Port)
	}
	b := c.backends[name]
	if b == nil {
		candidates := names(c.backends, name.Namespace)
		c.add(o, path+".name", finding{
			class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "BackendNotFound",
			help: didYouMean(name.Name, candidates, listing("Backend in namespace "+name.Namespace, candidates)),
		}, "Backend %q is not there", name.Name)
		return nowhere(name)
	}
	if o.kind == "GRPCRoute" && !c.takesGRPC(b) {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "UnsupportedProtocol",
			help: "use a Backend of type Static with appProtocol grpc or a policy that says tls, or a Service",
		}, "Backend %q does not take gRPC requests, which are HTTP/2", name.Name)
		return nowhere(name)
	}
	return c.backend(b)
}

// resolveService returns the destination of a reference to a Service.
func (c *compiler) resolveService(o object, path string, name types.NamespacedName, number *gatewayv1.PortNumber) *destination {
	unsupported := finding{class: config.Unresolved, code: config.CodeUnresolvedService, reason: "UnsupportedValue"}
	switch {
	case strings.Contains(name.Name, "."):
		unsupported.help = "name the Service alone; for a DNS name use a Backend of type Static"
		c.add(o, path+".name", unsupported, "%q is not the name of a Service", name.Name)
		return nowhere(name)
	case number == nil:
		unsupported.help = "add the port of the Service"
		c.add(o, path, unsupported, "a reference to a Service needs a port")
		return nowhere(name)
	}
	key := fmt.Sprintf("Service/%s:%d", name, *number)
	if o.kind == "GRPCRoute" {
		key = "gRPC/" + key
	}
	key += c.shown.suffix()
	if d := c.destinations[key]; d != nil && d.fault == nil {
		return d
	}
	s, p := c.servicePort(o, path, name, int32(*number))
	if p == nil {
		return nowhere(name)
	}
	d := &destination{name: name.String(), kind: "Service", cluster: fmt.Sprintf("kube-svc:%s-%s-%d_%s", name.Namespace, name.Name, *number, name.Name), rules: policy.NewBackendRules(policy.BackendInfo{Name: name.String(), Type: "Service", Protocol: "http"}, policy.Options{})}
	conn := c.serviceConnection(s, p)
	d.hash = conn.hash
	if addresses, ok := c.endpoints(o, path, s, p); ok && !conn.broken {
		protocol := protocolOf(p.AppProtocol)
		if o.kind == "GRPCRoute" && p.AppProtocol == nil {
			protocol = upstream.H2C // all that gRPC is
		}
		d.backend = &upstream.Proxy{Pool: c.connected(conn, key, protocol, addresses)}
	} else {
		d.fault = misconfigured
	}
	c.destinations[key] = d
	return d
}

// servicePort returns a port of a Service, or reports that it is not there.
func (c *compiler) servicePort(o object, path string, name types.NamespacedName, number int32) (*corev1.Service, *corev1.ServicePort) {
	s := c.services[name]
	if s == nil {
		candidates := names(c.services, name.Namespace)
		c.add(o, path+".name", finding{
			class: config.Unresolved, code: config.CodeUnresolvedService, reason: "BackendNotFound",
			help: didYouMean(name.Name, candidates, listing("Service in namespace "+name.Namespace, candidates)),
		}, "Service %q is not there", name.Name)
		return nil, nil
	}
	var ports []string
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].Port == number {
			return s, &s.Spec.Ports[i]
		}
		ports = append(ports, strconv.Itoa(int(s.Spec.Ports[i].Port)))
	}
	c.add(o, path+".port", finding{
		class: config.Unresolved, code: config.CodeUnresolvedService, reason: "BackendNotFound", help: listing("port", ports),
	}, "Service %q has no port %d", name.Name, number)
	return nil, nil
}

// endpoints returns the addresses of a port of a Service: the ready ones of its
// EndpointSlices, or its external name or cluster IP where there are none.
func (c *compiler) endpoints(o object, path string, s *corev1.Service, p *corev1.ServicePort) (addresses []string, ok bool) {
	if slices := c.slices[nameOf(s)]; len(slices) > 0 {
		for _, slice := range slices {
			var port int32
			for _, sp := range slice.Ports {
				if sp.Port != nil && (sp.Name == nil && p.Name == "" || sp.Name != nil && *sp.Name == p.Name) {
					port = *sp.Port
				}
			}
			if port == 0 {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready {
					continue
				}
				for _, a := range e.Addresses {
					addresses = append(addresses, hostPort(a, port))
					if e.Zone != nil {
						c.zones[hostPort(a, port)] = *e.Zone
					}
				}
			}
		}
		return sorted(addresses), true // none ready is not a mistake: it answers 503
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ExternalName != "":
		return []string{hostPort(s.Spec.ExternalName, p.Port)}, true
	case s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone:
		return []string{hostPort(s.Spec.ClusterIP, p.Port)}, true
	}
	c.add(o, path, finding{
		class: config.Unresolved, code: config.CodeUnresolvedService, reason: "BackendNotFound",
		help: "add an EndpointSlice with the label kubernetes.io/service-name, or spec.externalName to the Service",
	}, "nothing says where Service %q is", s.Name)
	return nil, false
}

func hostPort(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

// protocolOf returns how to speak to a Service port.
func protocolOf(appProtocol *string) upstream.Protocol {
	if appProtocol == nil {
		return upstream.HTTP1
	}
	switch strings.ToLower(*appProtocol) {
	case "kubernetes.io/h2c", "http2", "grpc":
		return upstream.H2C
	default:
		return upstream.HTTP1
	}
}

// pool returns the pool of that identity with the addresses, which it has from the commit of
// the snapshot on; nil when there is no Runtime.
func (c *compiler) pool(identity string, protocol upstream.Protocol, addresses []string) *upstream.Pool {
	return c.poolOf(fmt.Sprintf("%s/%d", identity, protocol), upstream.Options{Protocol: protocol}, addresses)
}

// poolOf is pool with any options, which identity must tell apart.
func (c *compiler) poolOf(identity string, opts upstream.Options, addresses []string) *upstream.Pool {
	if plan, ok := c.snapshot.pools[identity]; ok {
		return plan.pool
	}
	if c.rt == nil {
		return nil
	}
	p := c.rt.pool(identity, opts)
	plan := poolPlan{pool: p, addresses: addresses}
	if opts.ByZone {
		plan.zones = map[string]string{}
		for _, a := range addresses {
			if zone, ok := c.zones[a]; ok {
				plan.zones[a] = zone
			}
		}
	}
	c.snapshot.pools[identity] = plan
	return p
}

// backend returns the destination of a Backend.
func (c *compiler) backend(b *v1alpha1.Backend) *destination {
	o := objectOf(v1alpha1.KindBackend, b)
	if b.Spec.MCP != nil && c.shown != c.common { // one serves all Gateways
		defer func(before *clientIdentity) { c.shown = before }(c.shown)
		c.shown = c.common
	}
	key := o.String() + c.shown.suffix()
	if d := c.destinations[key]; d != nil {
		return d
	}
	d := &destination{name: o.name.String(), kind: backendType(b), cluster: fmt.Sprintf("backend_%s_%s_0", o.name.Namespace, o.name.Name)}
	c.destinations[key], c.made[o] = d, true
	info := policy.BackendInfo{Name: d.name, Type: d.kind, Protocol: "http"}
	switch {
	case b.Spec.MCP != nil:
		info.Protocol = "mcp"
	case b.Spec.AI != nil:
		info.Protocol = "llm"
	}
	policies := c.attached[attachment{kind: v1alpha1.KindBackend, name: o.name}]
	sets := ruleSets(policies)
	opts, web := c.onBackend(policies)
	opts.Rules = sets
	d.rules, d.web = policy.NewBackendRules(info, opts), web
	d.guarded = slices.ContainsFunc(sets, func(s policy.RuleSet) bool { return s.Target == "" })
	switch {
	case c.protects(o, b):
		d.fault = misconfigured // checkUnserved says why
	case b.Spec.MCP != nil:
		d.mcp = true
		c.mcpBackend(o, b, d)
	case b.Spec.AI != nil:
		c.aiBackend(o, b.Spec.AI, d, sets)
	case b.Spec.Static != nil:
		c.staticBackend(o, b, d)
	case b.Spec.AWS != nil:
		c.lambdaBackend(o, b, d)
	default:
		c.dynamicBackend(o, b, d)
	}
	return d
}

// backendType returns the type of a Backend, which may be left to the block that is set.
func backendType(b *v1alpha1.Backend) string {
	switch s := &b.Spec; {
	case s.Type != "":
		return string(s.Type)
	case s.MCP != nil:
		return string(v1alpha1.BackendMCP)
	case s.AI != nil:
		return string(v1alpha1.BackendAI)
	case s.Static != nil:
		return string(v1alpha1.BackendStatic)
	case s.AWS != nil:
		return string(v1alpha1.BackendAWS)
	default:
		return string(v1alpha1.BackendDynamicForwardProxy)
	}
}

// dynamicBackend compiles a Backend of type DynamicForwardProxy.
func (c *compiler) dynamicBackend(o object, b *v1alpha1.Backend, d *destination) {
	conn := *c.backendConnection(b)
	if conn.broken {
		d.fault = misconfigured
		return
	}
	var spec v1alpha1.DynamicForwardProxyBackend
	if b.Spec.DynamicForwardProxy != nil {
		spec = *b.Spec.DynamicForwardProxy
	}
	if spec.EnableTLS && conn.opts.TLS == nil {
		conn.opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conn.opts.Destinations = destinationsOf(spec.AllowedDestinations)
	identity := fmt.Sprintf("%s/%s", o, fingerprint(spec))
	d.backend = &upstream.Proxy{Pool: c.connected(&conn, identity, upstream.HTTP1, nil)}
}

// destinationsOf returns the destinations that are permitted beside the usual ones.
func destinationsOf(allowed []string) *upstream.Destinations {
	d := new(upstream.Destinations)
	for _, text := range allowed {
		p, err := netip.ParsePrefix(text)
		if a, err2 := netip.ParseAddr(text); err2 == nil {
			p, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
		}
		switch {
		case err != nil:
			d.Hosts = append(d.Hosts, strings.ToLower(text)) // validated
		case p.Addr().Is4In6() && p.Bits() >= 96:
			d.Allowed = append(d.Allowed, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
		default:
			d.Allowed = append(d.Allowed, p)
		}
	}
	return d
}

func (c *compiler) staticBackend(o object, b *v1alpha1.Backend, d *destination) {
	spec, conn := b.Spec.Static, c.backendConnection(b)
	d.hash = conn.hash
	if conn.broken {
		d.fault = misconfigured
		return
	}
	var addresses []string
	for i, h := range spec.Hosts {
		addresses = append(addresses, hostPort(h.Host, h.Port))
		if h.Port == 443 && conn.opts.TLS == nil {
			c.add(o, fmt.Sprintf("spec.static.hosts[%d].port", i), finding{class: config.Warning, code: config.CodeUnused},
				"port 443 does not imply TLS: the host is spoken to in plain text unless a policy on the Backend says tls")
		}
	}
	app := string(spec.AppProtocol)
	d.backend = &upstream.Proxy{Pool: c.connected(conn, o.String(), protocolOf(&app), addresses)}
}
