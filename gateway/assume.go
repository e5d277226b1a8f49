package gateway

import (
	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// assumeRoutes serves the Backends that no route refers to, where the Gateway is
// assumed: at /mcp/NAME and /llm/NAME, and the only MCP Backend also at /mcp.
func (c *compiler) assumeRoutes() {
	if !c.assumed {
		return
	}
	var mcps []*v1alpha1.Backend
	for _, b := range c.res.Backends {
		if b.Spec.MCP != nil {
			mcps = append(mcps, b)
		}
	}
	taken := map[string]object{}
	for age, b := range c.res.Backends {
		o := objectOf(v1alpha1.KindBackend, b)
		var path string
		switch {
		case c.routed[o.name]:
			continue
		case b.Spec.MCP != nil:
			path = "/mcp/" + b.Name
		case b.Spec.AI != nil:
			path = "/llm/" + b.Name
		default:
			continue // checkUnused says so
		}
		if other, ok := taken[path]; ok {
			c.add(o, "metadata.name", finding{class: config.Warning, code: config.CodeUnused}, "%s is served at %s already", other, path)
			continue
		}
		taken[path] = o
		paths := []string{path}
		if len(mcps) == 1 && b == mcps[0] {
			paths = append(paths, "/mcp")
		}
		c.assumeRoute(o, len(c.res.HTTPRoutes)+age, paths, c.backend(b))
	}
}

// assumeRoute serves a destination at the paths of the assumed Gateway, after all that is written.
func (c *compiler) assumeRoute(o object, age int, paths []string, to *destination) {
	cr := compiledRule{rule: rule{
		name: "assumed", backends: []weighted{{weight: 1, to: to}}, total: 1,
	}}
	for _, p := range paths {
		cr.matches = append(cr.matches, match{path: p})
	}
	for _, l := range c.listeners {
		c.attachRoute(object{kind: "assumed", name: o.name}, age, attachedHost{listener: l}, []compiledRule{cr})
	}
}
