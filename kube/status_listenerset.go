package kube

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// parentOf returns the Gateway that a ListenerSet names.
func parentOf(s *gatewayv1.ListenerSet) config.ObjectRef {
	p := s.Spec.ParentRef
	ref := config.ObjectRef{Kind: "Gateway", Namespace: s.Namespace, Name: string(p.Name)}
	if p.Namespace != nil {
		ref.Namespace = string(*p.Namespace)
	}
	if p.Kind != nil {
		ref.Kind = string(*p.Kind)
	}
	return ref
}

// gatewayOf returns the Gateway that a route or policy is attached to by way of ref, itself or a ListenerSet; ok is false when that adds to none.
func gatewayOf(attached map[config.ObjectRef][]config.Attachment, ref config.ObjectRef) (gateway config.ObjectRef, ok bool) {
	if ref.Kind != "ListenerSet" {
		return ref, true
	}
	for _, a := range attached[ref] {
		return a.To, true // there is one
	}
	return config.ObjectRef{}, false
}

// listenerSets writes the status of the ListenerSets that name a Gateway (Gateway API, ListenerSetStatus), and returns how many add to it.
func (j *judge) listenerSets(g *gatewayv1.Gateway, accepted, programmed finding) (attached int32) {
	ref := refOf("Gateway", g)
	for _, s := range j.resources.ListenerSets {
		if parentOf(s) == ref && j.listenerSet(s, g, accepted, programmed) {
			attached++
		}
	}
	return attached
}

// listenerSet writes the status of a ListenerSet, and reports whether it adds to its Gateway, about which the findings are.
func (j *judge) listenerSet(s *gatewayv1.ListenerSet, g *gatewayv1.Gateway, parentAccepted, parentProgrammed finding) bool {
	ref := refOf("ListenerSet", s)
	problems := j.problems[ref]
	listeners := []gatewayv1.ListenerEntryStatus{}
	var transitions []transition
	refused, _ := serious(at(problems, "spec.parentRef"))
	good := 0
	for i := range s.Spec.Listeners {
		if len(refused) > 0 {
			break // they are nobody's
		}
		l := asListener(&s.Spec.Listeners[i])
		h := holder{ref: ref, generation: s.Generation, set: true}
		for _, before := range s.Status.Listeners {
			if before.Name == l.Name {
				h.before = before.Conditions
			}
		}
		is, programmed, told := j.listener(g, &l, h, at(problems, fmt.Sprintf("spec.listeners[%d]", i)))
		listeners, transitions = append(listeners, gatewayv1.ListenerEntryStatus(is)), append(transitions, told...)
		if programmed {
			good++
		}
	}
	accepted := finding{"Accepted", true, "Accepted", "The listeners are those of the Gateway"}
	programmed := finding{"Programmed", true, "Programmed", parentProgrammed.message}
	switch {
	case len(refused) > 0:
		accepted = finding{"Accepted", false, refused[0].Reason, text(refused, "")}
	case !parentAccepted.yes && parentAccepted.reason != "ListenersNotValid":
		accepted = finding{"Accepted", false, "ParentNotAccepted", "the Gateway is not accepted: see its conditions"}
	case good == 0:
		accepted = finding{"Accepted", false, "ListenersNotValid", "no listener can be served: see the conditions of each"}
	case good < len(s.Spec.Listeners):
		accepted = finding{"Accepted", true, "ListenersNotValid", "not all listeners can be served: see the conditions of each"}
	}
	switch {
	case !accepted.yes:
		programmed = finding{"Programmed", false, accepted.reason, accepted.message}
	case !parentProgrammed.yes:
		programmed = finding{"Programmed", false, "ParentNotProgrammed", parentProgrammed.message}
	}
	after, told := merged(s.Status.Conditions, s.Generation, accepted, programmed)
	before := s.Status.Listeners
	if before == nil {
		before = []gatewayv1.ListenerEntryStatus{}
	}
	fields := func(conditions []condition, listeners []gatewayv1.ListenerEntryStatus) map[string]any {
		return map[string]any{"conditions": conditions, "listeners": listeners}
	}
	j.change(gatewayKind("ListenerSet"), s, fields(s.Status.Conditions, before), fields(after, listeners), append(told, transitions...))
	return accepted.yes
}
