package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

// A standing is how the data planes of all Gateways stand.
type standing struct {
	planes map[types.NamespacedName][]delivery.DataPlane // by ServiceAccount
	// unsure says that there may be some that are not known yet.
	unsure bool
}

// An uptake is how the data planes of a Gateway stand to what it is now.
type uptake struct {
	all, taken, refusing []delivery.DataPlane
}

// uptake returns how the data planes of a Gateway stand.
func (o *outcome) uptake(g *gatewayv1.Gateway) uptake {
	out := uptake{all: o.standing.planes[accountOf(g)]}
	version := o.versions[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}]
	for _, p := range out.all {
		if p.Gateways[delivery.Name("Gateway", g)] == version && version != "" {
			out.taken = append(out.taken, p)
		}
		if p.Refuses != "" {
			out.refusing = append(out.refusing, p)
		}
	}
	return out
}

// versionsOf returns the version of each Gateway as its data planes get it.
func versionsOf(gateways []*gatewayv1.Gateway, shares map[types.NamespacedName]delivery.Set) map[types.NamespacedName]string {
	out := map[types.NamespacedName]string{}
	for _, g := range gateways {
		name := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
		out[name] = shares[name][delivery.Name("Gateway", g)].Version
	}
	return out
}

// told returns the problems of a Gateway that its data planes tell of. What all have keeps it from being served; what only
// some have is a note.
func (o *outcome) told(g *gatewayv1.Gateway) []config.Problem {
	ref, u := refOf("Gateway", g), o.uptake(g)
	nodes := map[delivery.Finding][]string{}
	for _, p := range u.taken {
		for _, f := range p.Problems {
			if f.Object == ref { // it has no say about others
				nodes[f] = append(nodes[f], p.Node)
			}
		}
	}
	var out []config.Problem
	for f, who := range nodes {
		class := config.Unresolved
		if len(who) < len(u.taken) {
			class = config.Warning
		}
		out = append(out, config.Problem{Class: class, Code: f.Code, Object: ref, Path: f.Path, Reason: f.Reason, Message: named(who) + ": " + f.Message, Help: f.Help})
	}
	slices.SortFunc(out, func(a, b config.Problem) int {
		return strings.Compare(a.Path+"\x00"+a.Message, b.Path+"\x00"+b.Message)
	})
	return out
}

// named names data planes.
func named(nodes []string) string {
	slices.Sort(nodes)
	if nodes = slices.Compact(nodes); len(nodes) > 1 {
		return fmt.Sprintf("data plane %s and %d more", nodes[0], len(nodes)-1)
	}
	return "data plane " + nodes[0]
}

// refusals says which data planes refuse what they are sent, and why.
func (u uptake) refusals() string {
	nodes := map[string][]string{}
	for _, p := range u.refusing {
		nodes[p.Refuses] = append(nodes[p.Refuses], p.Node)
	}
	var out []string
	for _, why := range slices.Sorted(maps.Keys(nodes)) {
		out = append(out, fmt.Sprintf("%s refuses what it is sent, and goes on with what it has: %s", named(nodes[why]), why))
	}
	return strings.Join(out, "; ")
}

// programmed says whether the data planes of a Gateway serve it as it is now. When keep is true that is not certain: what was said before stays.
func (j *judge) programmed(g *gatewayv1.Gateway, p plan) (f finding, keep bool, u uptake) {
	u = j.uptake(g)
	pending := func(message string) finding { return finding{"Programmed", false, "Pending", message} }
	switch {
	case len(u.all) == 0 && p.selfManaged:
		return pending(fmt.Sprintf("no data plane is connected: run `mcpgw serve --controller %s` with a token of ServiceAccount %s in this namespace for the audience %s",
			j.controllerAddress, accountOf(g).Name, Audience)), j.standing.unsure, u
	case len(u.all) == 0:
		return pending(fmt.Sprintf("no data plane is connected: kubectl describe deployment %s -n %s", nameFor(g.Name), g.Namespace)), j.standing.unsure, u
	case len(u.refusing) == len(u.all):
		return finding{"Programmed", false, "Invalid", u.refusals()}, false, u
	case len(u.taken) == 0:
		return pending("data planes are connected, and have not taken the Gateway yet"), true, u
	}
	f = finding{"Programmed", true, "Programmed", "Data planes have the configuration"}
	if len(u.refusing) > 0 {
		f.message += ". Note: " + u.refusals()
	}
	return f, false, u
}
