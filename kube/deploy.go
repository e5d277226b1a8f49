package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// A plan is what is to be there for a Gateway.
type plan struct {
	gateway     *gatewayv1.Gateway
	selfManaged bool // nothing is: its data planes are run by somebody else
	unknown     bool // what is to be there can't be said: what is there stays
	objects     []*unstructured.Unstructured
}

// plan notes what is to be there for the Gateways, and adds to the report what keeps it from being.
func (s *set) plan(controller string, p *Proxies, report *config.Report) error {
	s.plans = map[config.ObjectRef]plan{}
	for _, g := range s.served(controller) {
		ref := refOf("Gateway", g)
		open := func(holder config.ObjectRef, i int, port gatewayv1.PortNumber) {
			if reserved(int32(port)) {
				report.Add(config.Problem{
					Class: config.Unresolved, Code: config.CodeListener, Object: holder, Path: fmt.Sprintf("spec.listeners[%d].port", i), Reason: "PortUnavailable",
					Message: fmt.Sprintf("data planes use port %d themselves", port), Help: "choose another port",
				})
			}
		}
		for i, l := range g.Spec.Listeners {
			open(ref, i, l.Port)
		}
		sets := s.setsOf(ref, report)
		for _, o := range sets {
			for i, l := range o.Spec.Listeners {
				open(refOf("ListenerSet", o), i, l.Port)
			}
		}
		parameters, err := s.parameters(g)
		switch {
		case err != nil:
			report.Add(config.Problem{Class: config.Unresolved, Code: config.CodeParameters, Object: ref, Reason: "InvalidParameters", Message: err.Error()})
			s.plans[ref] = plan{gateway: g, unknown: true}
		case parameters.SelfManaged != nil:
			s.plans[ref] = plan{gateway: g, selfManaged: true}
		default:
			objects, err := (&provision{gateway: g, sets: sets, spec: *parameters.Kube, proxies: p}).objects()
			if err != nil {
				return err
			}
			s.plans[ref] = plan{gateway: g, objects: objects}
		}
	}
	return nil
}

// setsOf returns the ListenerSets that add to a Gateway.
func (s *set) setsOf(gateway config.ObjectRef, report *config.Report) (out []*gatewayv1.ListenerSet) {
	for _, o := range s.resources.ListenerSets {
		ref := refOf("ListenerSet", o)
		if slices.ContainsFunc(report.Attachments, func(a config.Attachment) bool { return a.Object == ref && a.To == gateway }) {
			out = append(out, o)
		}
	}
	return out
}

// An applied is an object as it was after it was applied.
type applied struct {
	wanted string // identifies what was applied
	state  string // identifies what came of it
}

// keyOf tells objects apart.
func keyOf(kind string, o metav1.Object) string {
	return kind + "/" + o.GetNamespace() + "/" + o.GetName()
}

// deploy makes what is to be there, and deletes what is not: only what is a Gateway's own. What is as it was after it was
// applied is left alone.
func (s *status) deploy(ctx context.Context, o *outcome) {
	wanted := map[string]bool{}
	o.blocked = map[config.ObjectRef]string{}
	for ref, p := range o.plans {
		for _, object := range p.objects {
			key := keyOf(object.GetKind(), object)
			wanted[key] = true
			if err := s.apply(ctx, p.gateway, object, o.managed[key]); err != nil && ctx.Err() == nil && o.blocked[ref] == "" {
				o.blocked[ref] = fmt.Sprintf("%s %q can't be made: %v", object.GetKind(), object.GetName(), err)
			}
		}
	}
	for key, object := range o.managed {
		if wanted[key] || !o.superfluous(object) {
			continue
		}
		delete(s.applied, key)
		uid := object.GetUID()
		err := s.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err), ctx.Err() != nil: // gone, or another that will come as a change
		case err != nil:
			s.logger.Error("what is not needed any more can't be deleted", slog.String("object", key), slog.Any("error", err))
		default:
			s.logger.Info("deleted", slog.String("object", key))
		}
	}
}

// superfluous reports whether an object that nothing asks for is ours to delete: that of a Gateway that is gone, or that says now
// that it needs none.
func (o *outcome) superfluous(object client.Object) bool {
	owner := metav1.GetControllerOf(object)
	if owner == nil || owner.Kind != "Gateway" || object.GetDeletionTimestamp() != nil {
		return false
	}
	for _, p := range o.plans {
		if p.gateway.UID == owner.UID {
			return !p.unknown
		}
	}
	return slices.Contains(o.classes, object.GetLabels()[classLabel])
}

// apply makes an object what it is to be. known is what is there, nil if nothing that is ours is known.
func (s *status) apply(ctx context.Context, g *gatewayv1.Gateway, object *unstructured.Unstructured, known client.Object) error {
	text, err := json.Marshal(object.Object)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	key, wanted := keyOf(object.GetKind(), object), hex.EncodeToString(sum[:])
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if known == nil {
		there := &metav1.PartialObjectMetadata{}
		there.SetGroupVersionKind(object.GroupVersionKind())
		switch err := s.client.Get(ctx, client.ObjectKeyFromObject(object), there); {
		case err == nil:
			known = there
		case !apierrors.IsNotFound(err):
			return err
		}
	}
	if known != nil {
		if owner := metav1.GetControllerOf(known); owner == nil || owner.UID != g.UID {
			return errors.New("there is one that is not this Gateway's: delete or rename it")
		}
		if s.applied[key] == (applied{wanted, stateOf(known)}) {
			return nil
		}
	}
	result := object.DeepCopy()
	err = s.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(result), client.FieldOwner(manager), client.ForceOwnership)
	s.source.opts.Metrics.applied(object.GetKind(), err)
	if err != nil {
		return err
	}
	s.applied[key] = applied{wanted, stateOf(result)}
	return nil
}

// stateOf tells states of an object apart, as far as it is ours to say what they are: not by its status, where the API
// server counts its other changes.
func stateOf(o metav1.Object) string {
	if o.GetGeneration() == 0 {
		return o.GetResourceVersion()
	}
	text, _ := json.Marshal([]any{o.GetUID(), o.GetGeneration(), o.GetLabels(), o.GetOwnerReferences()}) // plain data
	return string(text)
}
