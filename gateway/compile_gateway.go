package gateway

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// ControllerName is the controllerName of the GatewayClasses that this gateway serves.
const ControllerName = "kgateway.dev/agentgateway"

// The Gateway that is assumed where files hold none.
const (
	assumedListener = "http"
	assumedPort     = 8080
)

var assumedGateway = object{kind: "Gateway", name: types.NamespacedName{Namespace: "default", Name: "default"}}

// assumes reports whether a Gateway is assumed: the resources are local files, and there is none in
// them.
func (c *compiler) assumes() bool { return c.res.Local && len(c.res.Gateways) == 0 }

// An openListener is a listener that can take routes, while it is compiled.
type openListener struct {
	*listener
	object   object               // its Gateway or ListenerSet
	of       types.NamespacedName // its Gateway
	section  string               // its name in object
	hostname string
	port     int
	spec     *gatewayv1.Listener
	secure   bool
	takes    map[string]bool // the kinds of routes
	claims   []claim
	matches  []*match
	open     bool // a rule that nothing restricts is attached
}

// compileGateways makes the listeners.
func (c *compiler) compileGateways() {
	if c.assumes() {
		c.assumed = true
		all := gatewayv1.NamespacesFromAll
		c.openListener(assumedGateway.name, assumedGateway, "", &gatewayv1.Listener{
			Name: assumedListener, Port: assumedPort, Protocol: gatewayv1.HTTPProtocolType,
			AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &all}},
		})
		return
	}
	for _, g := range c.res.Gateways {
		if !c.serves(g) {
			continue
		}
		o := objectOf("Gateway", g)
		c.checkGateway(o, g)
		for i := range g.Spec.Listeners {
			c.openListener(o.name, o, fmt.Sprintf("spec.listeners[%d]", i), &g.Spec.Listeners[i])
		}
	}
}

// serves reports whether a Gateway is ours: its class is. Files need no GatewayClass.
func (c *compiler) serves(g *gatewayv1.Gateway) bool {
	for _, class := range c.res.GatewayClasses {
		if class.Name == string(g.Spec.GatewayClassName) {
			return string(class.Spec.ControllerName) == cmp.Or(c.res.Controller, ControllerName)
		}
	}
	return c.res.Local
}

// checkGateway reports the fields of a Gateway that are not served. Those that
// protect make all of it answer 500.
func (c *compiler) checkGateway(o object, g *gatewayv1.Gateway) {
	for i, a := range g.Spec.Addresses {
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType && *a.Type != gatewayv1.HostnameAddressType {
			c.add(o, fmt.Sprintf("spec.addresses[%d].type", i), finding{class: config.Unresolved, code: config.CodeUnserved, reason: "UnsupportedAddress", help: "use IPAddress or Hostname"},
				"addresses of type %s are not served", *a.Type)
		}
	}
	if len(g.Spec.Addresses) > 0 && c.res.Local { // whoever writes 127.0.0.1 means: and nowhere else
		c.add(o, "spec.addresses", finding{class: config.Unresolved, code: config.CodeUnserved, reason: "UnsupportedAddress",
			help: "leave them out, and keep the port away from others"},
			"addresses are not served yet: the Gateway answers 500, rather than others on all addresses")
		c.attach(attachment{kind: "Gateway", name: o.name}, broken(o))
	}
}

// openListener adds a listener of a Gateway, that o holds, to its port, unless it can't be served.
func (c *compiler) openListener(gateway types.NamespacedName, o object, path string, spec *gatewayv1.Listener) {
	l := &openListener{
		listener: &listener{gateway: gateway.String(), name: string(spec.Name), owner: o.ref(), path: path, edge: newEdge()},
		object:   o, of: gateway, section: string(spec.Name), spec: spec, port: int(spec.Port), secure: spec.Protocol == gatewayv1.HTTPSProtocolType, hostname: hostnameOf(spec.Hostname),
	}
	if o.kind == listenerSet { // names are unique in what holds them
		l.name = o.name.String() + "/" + l.section
	}
	for _, other := range c.listeners {
		if c.conflict(l, other) {
			return
		}
	}
	if !c.protocol(o, path, spec) {
		return
	}
	l.takes = c.routeKinds(l)
	if l.secure {
		l.certificate = c.certificate(l)
		check, ok := c.clientCheck(l)
		if l.certificate == nil || !ok {
			c.closed = append(c.closed, l)
			return
		}
		l.clients = check
	}
	p := c.snapshot.ports[l.port]
	if p == nil {
		p = &port{number: l.port, tls: l.secure, loopback: c.assumed, idle: idleTimeout}
		c.snapshot.ports[l.port] = p
	}
	p.listeners.at(l.hostname, func() *listener { return l.listener })
	c.listeners = append(c.listeners, l)
	c.snapshot.listeners = append(c.snapshot.listeners, l.listener)
}

// conflict reports, as the mistake of l, that it can't be served beside other.
func (c *compiler) conflict(l, other *openListener) bool {
	if l.port != other.port || c.res.Separate && l.of != other.of {
		return false
	}
	unserved := l.spec.Protocol == gatewayv1.TCPProtocolType || l.spec.Protocol == gatewayv1.TLSProtocolType && !other.secure
	if l.served() && l.secure != other.secure || unserved {
		c.add(l.object, l.path+".protocol", finding{
			class: config.Invalid, code: config.CodeListener, reason: "ProtocolConflict",
			help: "listeners that share a port speak the same protocol",
		}, "listener %q of %s has another protocol on port %d", other.section, other.object, l.port)
		return true
	}
	if l.served() && l.hostname == other.hostname {
		c.add(l.object, l.path+".port", finding{
			class: config.Invalid, code: config.CodeListener, reason: "HostnameConflict",
			help: "give one of them another port or hostname",
		}, "listener %q of %s has the same port %d and hostname", other.section, other.object, l.port)
		return true
	}
	return false
}

// served reports whether the protocol of the listener is.
func (l *openListener) served() bool {
	return l.spec.Protocol == gatewayv1.HTTPProtocolType || l.spec.Protocol == gatewayv1.HTTPSProtocolType
}

// protocol reports whether the protocol of a listener is served.
func (c *compiler) protocol(o object, path string, spec *gatewayv1.Listener) bool {
	unsupported := finding{class: config.Unresolved, code: config.CodeListener, reason: "UnsupportedProtocol"}
	switch spec.Protocol {
	case gatewayv1.HTTPProtocolType:
		return true
	case gatewayv1.HTTPSProtocolType:
		if t := spec.TLS; t != nil && t.Mode != nil && *t.Mode != gatewayv1.TLSModeTerminate {
			unsupported.help = "use mode Terminate"
			c.add(o, path+".tls.mode", unsupported, "TLS mode %s is not served on an HTTPS listener", *t.Mode)
			return false
		}
		return true
	}
	unsupported.help = "use HTTP or HTTPS"
	if upper := strings.ToUpper(string(spec.Protocol)); upper != string(spec.Protocol) && (upper == "HTTP" || upper == "HTTPS") {
		unsupported.help = fmt.Sprintf("did you mean %q?", upper)
	}
	c.add(o, path+".protocol", unsupported, "protocol %q is not served", spec.Protocol)
	return false
}

// routeKinds returns the kinds of routes that a listener takes.
func (c *compiler) routeKinds(l *openListener) map[string]bool {
	if l.spec.AllowedRoutes == nil || len(l.spec.AllowedRoutes.Kinds) == 0 {
		return map[string]bool{"HTTPRoute": true, "GRPCRoute": true}
	}
	takes := map[string]bool{}
	for i, k := range l.spec.AllowedRoutes.Kinds {
		if (k.Kind == "HTTPRoute" || k.Kind == "GRPCRoute") && (k.Group == nil || *k.Group == gatewayv1.GroupName) {
			takes[string(k.Kind)] = true
			continue
		}
		c.add(l.object, fmt.Sprintf("%s.allowedRoutes.kinds[%d].kind", l.path, i), finding{
			class: config.Unresolved, code: config.CodeListener, reason: "InvalidRouteKinds", help: "use HTTPRoute or GRPCRoute",
		}, "routes of kind %s are not served", k.Kind)
	}
	return takes
}

// certificate returns the certificate of an HTTPS listener, or nil.
func (c *compiler) certificate(l *openListener) *tls.Certificate {
	var refs []gatewayv1.SecretObjectReference
	if l.spec.TLS != nil {
		refs = l.spec.TLS.CertificateRefs
	}
	path := l.path + ".tls.certificateRefs"
	if len(refs) != 1 {
		c.add(l.object, path, finding{class: config.Unresolved, code: config.CodeUnresolvedSecret, reason: "InvalidCertificateRef", help: "name one Secret with tls.crt and tls.key"},
			"an HTTPS listener needs exactly one certificate, not %d", len(refs))
		return nil
	}
	return c.keyPair(l.object, path+"[0]", &refs[0], "InvalidCertificateRef")
}

// keyPair returns the certificate that a reference of a Gateway or ListenerSet leads to, or reports for that reason what is wrong with it and
// returns nil.
func (c *compiler) keyPair(o object, path string, ref *gatewayv1.SecretObjectReference, reason string) *tls.Certificate {
	invalid := finding{class: config.Unresolved, code: config.CodeUnresolvedSecret, reason: reason}
	if ref.Kind != nil && *ref.Kind != "Secret" || ref.Group != nil && *ref.Group != "" {
		invalid.code = config.CodeUnresolvedBackend
		c.add(o, path, invalid, "certificates come from Secrets only")
		return nil
	}
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		name.Namespace = string(*ref.Namespace)
	}
	grant := reference{from: o.kind, fromGroup: gatewayv1.GroupName, to: "Secret"}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return nil
	}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path+".name", name, reason)
		return nil
	}
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		invalid.help = "tls.crt holds the certificate chain and tls.key its key, both in PEM"
		c.add(o, path+".name", invalid, "Secret %q holds no usable certificate: %v", name.Name, err)
		return nil
	}
	return &pair
}

// secretNotFound reports a reference to a Secret that is not there.
func (c *compiler) secretNotFound(o object, path string, name types.NamespacedName, reason string) {
	candidates := names(c.secrets, name.Namespace)
	c.add(o, path, finding{
		class: config.Unresolved, code: config.CodeUnresolvedSecret, reason: reason,
		help: didYouMean(name.Name, candidates, listing("Secret in namespace "+name.Namespace, candidates)),
	}, "Secret %q is not there", name.Name)
}

// allows reports whether the listener takes routes from a namespace.
func (c *compiler) allows(l *openListener, namespace string) bool {
	var from *gatewayv1.RouteNamespaces
	if l.spec.AllowedRoutes != nil {
		from = l.spec.AllowedRoutes.Namespaces
	}
	return c.allowsFrom(from, l.object.name.Namespace, namespace)
}

// allowsFrom reports whether an object in a namespace takes what is in namespace from; without a word, what is in its own.
func (c *compiler) allowsFrom(spec *gatewayv1.RouteNamespaces, namespace, from string) bool {
	which := gatewayv1.NamespacesFromSame
	if spec != nil && spec.From != nil {
		which = *spec.From
	}
	switch which {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return namespace == from
	case gatewayv1.NamespacesFromSelector:
		s, err := metav1.LabelSelectorAsSelector(spec.Selector)
		return err == nil && s.Matches(c.namespaceLabels(from))
	default:
		return false
	}
}

// finish completes the snapshot.
func (c *compiler) finish() *Snapshot {
	c.makeMCP()
	warned := map[types.NamespacedName]bool{}
	for _, l := range c.listeners {
		l.router = newRouter(l.matches)
		if l.open && c.res.Local && !c.assumed && !warned[l.of] {
			warned[l.of] = true
			c.add(l.object, l.path, finding{
				class: config.Warning, code: config.CodeOpenToAll,
				help: "authenticate clients by a TrafficPolicy, with jwtAuthentication say, or restrict them by rbac, or keep the port away from others",
			}, "the Gateway listens on all addresses, and not all of its routes are restricted by a policy")
		}
	}
	return c.snapshot
}
