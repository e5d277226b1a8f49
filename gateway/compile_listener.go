package gateway

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/policy"
)

// A listening is what a field of an HTTPListenerPolicy does to a Gateway that it covers.
type listening func(gateway types.NamespacedName, listeners []*openListener)

// edges returns a listening that changes the edge of each listener.
func edges(change func(*edge)) listening {
	return func(_ types.NamespacedName, listeners []*openListener) {
		for _, l := range listeners {
			change(l.edge)
		}
	}
}

// A listenerField is a field of an HTTPListenerPolicy, which is merged as a whole.
type listenerField struct {
	name string
	// compile returns what the field does, nil where the policy does not have it.
	compile func(c *compiler, o object, s *v1alpha1.HTTPListenerPolicySpec) listening
}

// listenerFields returns the fields of an HTTPListenerPolicy.
func listenerFields() []listenerField {
	return []listenerField{
		{"accessLog", (*compiler).accessLogs},
		{"tracing", (*compiler).tracing},
		{"upgradeConfig", (*compiler).upgrades},
		{"useRemoteAddress", func(_ *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
			return ifSet(s.UseRemoteAddress, func(e *edge, v bool) { e.fromHeader = !v })
		}},
		{"xffNumTrustedHops", func(_ *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
			return ifSet(s.XFFNumTrustedHops, func(e *edge, v int32) { e.hops = int(v) })
		}},
		{"serverHeaderTransformation", serverHeaders},
		{"streamIdleTimeout", func(c *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
			if s.StreamIdleTimeout == "" {
				return nil
			}
			idle := c.rt.idle(s.StreamIdleTimeout.Value())
			return edges(func(e *edge) { e.idle, e.idleSaid = idle, true })
		}},
		{"idleTimeout", (*compiler).idleTimeouts},
		{"healthCheck", func(_ *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
			if s.HealthCheck == nil {
				return nil
			}
			return edges(func(e *edge) { e.health = s.HealthCheck.Path })
		}},
		{"preserveHttp1HeaderCase", headerCase},
		{"acceptHttp10", func(_ *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
			return ifSet(s.AcceptHTTP10, func(e *edge, v bool) { e.refusesOld = !v })
		}},
		{"defaultHostForHttp10", (*compiler).oldHosts},
	}
}

// ifSet returns a listening that sets what is there.
func ifSet[T any](v *T, set func(*edge, T)) listening {
	if v == nil {
		return nil
	}
	return edges(func(e *edge) { set(e, *v) })
}

// compileListening has the listeners do what the HTTPListenerPolicies on their Gateways say: of several that have the
// same field, the oldest.
func (c *compiler) compileListening() {
	byGateway := map[types.NamespacedName][]*openListener{}
	for _, l := range c.listeners {
		byGateway[l.of] = append(byGateway[l.of], l)
	}
	type covered struct {
		all    []attachedPolicy
		fields []policy.Attachment
		do     []map[string]listening
	}
	covering := map[types.NamespacedName]*covered{}
	for _, p := range c.res.HTTPListenerPolicies {
		o := objectOf(v1alpha1.KindHTTPListenerPolicy, p)
		if c.res.Broken[o.ref()] {
			continue // what it covers is closed
		}
		do := map[string]listening{}
		var set []string
		for _, f := range listenerFields() {
			if l := f.compile(c, o, &p.Spec); l != nil {
				do[f.name] = l
				set = append(set, f.name)
			}
		}
		once := map[types.NamespacedName]bool{} // it may cover the same by name and by label
		for _, t := range c.listening[o] {
			if once[t.name] {
				continue
			}
			once[t.name] = true
			g := covering[t.name]
			if g == nil {
				g = &covered{}
				covering[t.name] = g
			}
			g.all = append(g.all, attachedPolicy{object: o})
			g.fields = append(g.fields, policy.Attachment{Name: o.name.String(), Created: p.CreationTimestamp.Time, Level: policy.GatewayLevel, Fields: set})
			g.do = append(g.do, do)
		}
	}
	for _, gateway := range slices.SortedFunc(maps.Keys(covering), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }) {
		g := covering[gateway]
		effective := policy.Merge(g.fields)
		for _, f := range listenerFields() {
			for _, i := range effective.Fields[f.name] {
				g.do[i][f.name](gateway, byGateway[gateway])
			}
		}
		c.overridden(g.all, g.fields, effective)
	}
}

func (c *compiler) tracing(o object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.Tracing == nil {
		return nil
	}
	cfg, ok := c.tracer(o, s.Tracing)
	return func(gateway types.NamespacedName, _ []*openListener) {
		if ok {
			c.trace(gateway, cfg)
		}
	}
}

func (c *compiler) upgrades(o object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.UpgradeConfig == nil {
		return nil
	}
	enabled := map[string]bool{}
	for i, name := range s.UpgradeConfig.EnabledUpgrades {
		name = strings.ToLower(name)
		switch name {
		case "connect":
			c.notUpgraded(o, i, "CONNECT is answered 400: an HTTPRoute matches paths, and it has none")
		case "h2c":
			c.notUpgraded(o, i, "h2c is never upgraded to: clients speak HTTP/2 from the first byte, or HTTP/1.1")
		default:
			enabled[name] = true
		}
	}
	return edges(func(e *edge) { e.upgrades = enabled })
}

func (c *compiler) notUpgraded(o object, i int, why string) {
	c.add(o, fmt.Sprintf("spec.upgradeConfig.enabledUpgrades[%d]", i), finding{class: config.Warning, code: config.CodeUnserved, help: "remove it"}, "%s", why)
}

func serverHeaders(_ *compiler, _ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.ServerHeaderTransformation == "" {
		return nil
	}
	to := map[v1alpha1.ServerHeaderTransformation]serverHeader{
		v1alpha1.ServerHeaderOverwrite: serverOverwritten, v1alpha1.ServerHeaderAppendIfAbsent: serverFilledIn, v1alpha1.ServerHeaderPassThrough: serverPasses,
	}[s.ServerHeaderTransformation]
	return edges(func(e *edge) { e.server = to })
}

// idleTimeouts sets how long connections stay open. Gateways that share a port share the shortest time.
func (c *compiler) idleTimeouts(_ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.IdleTimeout == "" {
		return nil
	}
	idle := s.IdleTimeout.Value()
	return func(_ types.NamespacedName, listeners []*openListener) {
		for _, l := range listeners {
			p := c.snapshot.ports[l.port]
			if known, ok := c.idles[l.port]; !ok || idle > 0 && (known == 0 || idle < known) {
				p.idle, c.idles[l.port] = idle, idle
			}
		}
	}
}

// oldHosts sets the host of HTTP/1.0 requests that name none. Before it is known which listener they are for, that
// of the first Gateway on the port counts.
func (c *compiler) oldHosts(_ object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.DefaultHostForHTTP10 == "" {
		return nil
	}
	return func(_ types.NamespacedName, listeners []*openListener) {
		for _, l := range listeners {
			if p := c.snapshot.ports[l.port]; p.oldHost == "" {
				p.oldHost = s.DefaultHostForHTTP10
			}
		}
	}
}

func headerCase(c *compiler, o object, s *v1alpha1.HTTPListenerPolicySpec) listening {
	if s.PreserveHTTP1HeaderCase == nil {
		return nil
	}
	if *s.PreserveHTTP1HeaderCase {
		c.add(o, "spec.preserveHttp1HeaderCase", finding{class: config.Warning, code: config.CodeUnserved, help: "remove it: names of headers are the same in any case (RFC 9110 section 5.1)"},
			"the case of header names is not kept: they are read in any case, and written in their usual one")
	}
	return edges(func(*edge) {})
}
