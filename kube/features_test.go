package kube

import (
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/mcpgw/mcpgw/config"
)

// TestSupportedFeatures: the status of a GatewayClass has known features once and in order, those of the experimental channel when that is
// served, and is not written again.
func TestSupportedFeatures(t *testing.T) {
	known := features.SetsToNamesSet(features.AllFeatures)
	for _, experimental := range []bool{false, true} {
		class := &gatewayv1.GatewayClass{Spec: gatewayv1.GatewayClassSpec{ControllerName: "test/ours"}}
		class.Name = "ours"
		o := &outcome{set: &set{resources: &config.Resources{GatewayClasses: []*gatewayv1.GatewayClass{class}}}, report: &config.Report{}}
		changes := o.changes(&Options{Controller: "test/ours", Experimental: experimental})
		if len(changes) != 1 {
			t.Fatalf("%d changes, want one", len(changes))
		}
		got := changes[0].fields["supportedFeatures"].([]gatewayv1.SupportedFeature)
		if !slices.IsSortedFunc(got, func(a, b gatewayv1.SupportedFeature) int { return strings.Compare(string(a.Name), string(b.Name)) }) {
			t.Errorf("not in order: %v", got)
		}
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("a feature is there twice: %v", got)
		}
		for _, f := range got {
			if !known.Has(features.FeatureName(f.Name)) {
				t.Errorf("%s is no feature of the Gateway API", f.Name)
			}
		}
		if retry := slices.Contains(got, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(features.SupportHTTPRouteRetry)}); retry != experimental {
			t.Errorf("experimental is %v, and HTTPRouteRetry is there: %v", experimental, retry)
		}
		class.Status.SupportedFeatures = got
		class.Status.Conditions = changes[0].fields["conditions"].([]condition)
		if again := o.changes(&Options{Controller: "test/ours", Experimental: experimental}); len(again) > 0 {
			t.Errorf("written again: %v", again[0].fields)
		}
	}
}
