package kube

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// ExperimentalVariable is the name of the variable that has fields of the experimental channel of the Gateway API be
// served.
const ExperimentalVariable = "KGW_ENABLE_GATEWAY_API_EXPERIMENTAL_FEATURES"

// gate leaves out what is of the experimental channel, unless that is served.
func (s *set) gate(experimental bool) {
	if experimental {
		return
	}
	var notes []config.Problem
	s.resources.HTTPRoutes, notes = standard(s.resources.HTTPRoutes)
	s.problems = append(s.problems, notes...)
}

// standard returns routes without the fields that are in the experimental channel of the Gateway API only, and warnings about those that were there. Routes
// are not changed.
func standard(routes []*gatewayv1.HTTPRoute) (out []*gatewayv1.HTTPRoute, notes []config.Problem) {
	out = make([]*gatewayv1.HTTPRoute, len(routes))
	for i, r := range routes {
		out[i] = r
		for k := range r.Spec.Rules {
			rule := &r.Spec.Rules[k]
			for field, there := range map[string]bool{"retry": rule.Retry != nil, "sessionPersistence": rule.SessionPersistence != nil} {
				if !there {
					continue
				}
				if out[i] == r {
					out[i] = r.DeepCopy()
				}
				notes = append(notes, config.Problem{
					Class: config.Warning, Code: config.CodeUnserved, Object: refOf("HTTPRoute", r), Path: fmt.Sprintf("spec.rules[%d].%s", k, field),
					Message: field + " is of the experimental channel, which is switched off: it is left out", Help: "set " + ExperimentalVariable + "=true",
				})
			}
			if out[i] != r {
				out[i].Spec.Rules[k].Retry, out[i].Spec.Rules[k].SessionPersistence = nil, nil
			}
		}
	}
	return out, notes
}
