package gateway

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/upstream"
)

// Defaults of the services that GatewayExtensions describe, as Envoy has them.
const (
	defaultServicePort    = 80
	defaultServiceTimeout = 200 * time.Millisecond
	defaultServiceBackoff = 25 * time.Millisecond
)

// grpcService returns the service that a GatewayExtension describes, or reports what is wrong with its reference and
// returns nil. Calls take timeout at most where the extension does not say it. While there is no Runtime, the service can't be asked.
func (c *compiler) grpcService(o object, path string, spec *v1alpha1.ExtGRPCService, timeout time.Duration) *extension.Service {
	to := c.service(o, path+".backendRef", &spec.BackendRef)
	if to == nil {
		return nil
	}
	return &extension.Service{
		RoundTripper: c.connected(to.conn, to.identity, upstream.H2C, to.addresses),
		Authority:    cmp.Or(spec.Authority, to.authority),
		Timeout:      cmp.Or(spec.RequestTimeout.Value(), timeout),
		Retry:        serviceRetry(spec.Retry),
	}
}

// serviceRetry returns when to ask a service again.
func serviceRetry(spec *v1alpha1.ExtServiceRetry) extension.Retry {
	if spec == nil {
		return extension.Retry{}
	}
	r := extension.Retry{Attempts: or(spec.Attempts, 1), Base: defaultServiceBackoff}
	if b := spec.Backoff; b != nil {
		r.Base, r.Max = cmp.Or(b.BaseInterval.Value(), r.Base), b.MaxInterval.Value()
	}
	return r
}

// A reached is a Service or Backend that the gateway itself asks.
type reached struct {
	conn      *connection
	identity  string
	protocol  upstream.Protocol // that its appProtocol says
	addresses []string
	authority string // host and port
}

// service returns where a reference of a GatewayExtension leads, or reports what is wrong with it and returns nil.
func (c *compiler) service(o object, path string, ref *v1alpha1.BackendRef) *reached {
	name := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, o.name.Namespace), Name: ref.Name}
	kind, group := cmp.Or(ref.Kind, "Service"), ""
	if kind == v1alpha1.KindBackend {
		group = v1alpha1.GroupName
	}
	grant := reference{from: o.kind, fromGroup: v1alpha1.GroupName, to: kind, toGroup: group}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return nil
	}
	if kind == v1alpha1.KindBackend {
		return c.serviceBackend(o, path, name)
	}
	s, p := c.servicePort(o, path, name, cmp.Or(ref.Port, defaultServicePort))
	if p == nil {
		return nil
	}
	authority := hostPort(s.Name+"."+s.Namespace+".svc", p.Port)
	to := &reached{conn: c.serviceConnection(s, p), identity: "Service/" + hostPort(name.String(), p.Port), protocol: protocolOf(p.AppProtocol), authority: authority}
	var ok bool
	if to.addresses, ok = c.endpoints(o, path, s, p); !ok {
		return nil
	}
	return c.sound(o, path, to)
}

// serviceBackend is service for a Backend.
func (c *compiler) serviceBackend(o object, path string, name types.NamespacedName) *reached {
	missing := finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "BackendNotFound"}
	b := c.backends[name]
	if b == nil || c.res.Broken[object{v1alpha1.KindBackend, name}.ref()] {
		candidates := names(c.backends, name.Namespace)
		missing.help = didYouMean(name.Name, candidates, listing("Backend in namespace "+name.Namespace, candidates))
		c.add(o, path+".name", missing, "Backend %q is not there, or has a mistake", name.Name)
		return nil
	}
	c.routed[name] = true // it is of use, though not to requests
	if b.Spec.Static == nil || len(b.Spec.Static.Hosts) == 0 {
		missing.help = "refer to a Service, or to a Backend of type Static"
		c.add(o, path+".name", missing, "Backend %q is of type %s, which can't be asked", name.Name, backendType(b))
		return nil
	}
	app := string(b.Spec.Static.AppProtocol)
	to := &reached{conn: c.backendConnection(b), identity: objectOf(v1alpha1.KindBackend, b).String(), protocol: protocolOf(&app)}
	for _, h := range b.Spec.Static.Hosts {
		to.addresses = append(to.addresses, hostPort(h.Host, h.Port))
	}
	to.authority = to.addresses[0]
	return c.sound(o, path, to)
}

// sound returns to, unless what it takes to reach it safely is missing, which it reports.
func (c *compiler) sound(o object, path string, to *reached) *reached {
	if !to.conn.broken {
		return to
	}
	c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, help: "see what is said of the policies on it"},
		"%s can't be asked: a policy on how it is reached has a mistake", to.authority)
	return nil
}
