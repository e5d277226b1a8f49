package kube

import (
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TestStandard: experimental fields are left out and told; what the cache holds stays as it is.
func TestStandard(t *testing.T) {
	with := &gatewayv1.HTTPRoute{}
	with.Spec.Rules = []gatewayv1.HTTPRouteRule{{}, {Retry: &gatewayv1.HTTPRouteRetry{}, SessionPersistence: &gatewayv1.SessionPersistence{}}, {Retry: &gatewayv1.HTTPRouteRetry{}}}
	without := &gatewayv1.HTTPRoute{}
	without.Spec.Rules = []gatewayv1.HTTPRouteRule{{}}
	got, notes := standard([]*gatewayv1.HTTPRoute{with, without})
	if len(notes) != 3 {
		t.Errorf("there are %d notes: %v", len(notes), notes)
	}
	for i, r := range got[0].Spec.Rules {
		if r.Retry != nil || r.SessionPersistence != nil {
			t.Errorf("rule %d still has it", i)
		}
	}
	if with.Spec.Rules[1].Retry == nil || with.Spec.Rules[2].Retry == nil || got[1] != without {
		t.Error("what is in the cache was changed, or copied without need")
	}
}
