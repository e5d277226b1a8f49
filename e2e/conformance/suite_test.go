package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1alpha2 "sigs.k8s.io/gateway-api/apis/v1alpha2"
	gatewayv1alpha3 "sigs.k8s.io/gateway-api/apis/v1alpha3"
	experimental "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/mcpgw/mcpgw/internal/testkube"
)

const (
	className  = "mcpgw"
	controller = "mcpgw.test/conformance"
	image      = "mcpgw.test/mcpgw:"
)

// TestGatewayAPI runs the suite for the features that the status of the GatewayClass says are there. MCPGW_CONFORMANCE_REPORT names the file
// for its report; MCPGW_CONFORMANCE_TEST names a single test, of which there is none.
func TestGatewayAPI(t *testing.T) {
	c := newCluster(t)
	t.Setenv("KGW_ENABLE_GATEWAY_API_EXPERIMENTAL_FEATURES", fmt.Sprint(channel() == "experimental"))
	at := testkube.Network + ":9978"
	c.run(t, "mcpgw", c.gateway, "controller", "--kubeconfig", c.kubeconfig, "--controller-name", controller, "--lease-namespace", "default",
		"--listen", at, "--address", at, "--proxy-image", image+"conformance", "--metrics-addr", "off", "--ready-addr", "127.0.0.1:15021")
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, gatewayv1.Install, gatewayv1alpha2.Install, gatewayv1alpha3.Install, experimental.Install,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	options := client.Options{Scheme: scheme}
	k8s, err := client.New(c.plane.Config, options)
	if err != nil {
		t.Fatal(err)
	}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: className}, Spec: gatewayv1.GatewayClassSpec{ControllerName: controller}}
	if err := k8s.Create(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !meta.IsStatusConditionTrue(class.Status.Conditions, "Accepted"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the GatewayClass is not accepted within a minute")
		}
		if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(class), class); err != nil {
			t.Fatal(err)
		}
	}
	o := suite.ConformanceOptions{Client: k8s, ClientOptions: options, Clientset: c.clients, RestConfig: c.plane.Config, ManifestFS: []fs.FS{&conformance.Manifests}}
	o.GatewayClassName = className
	o.ConformanceProfiles = []suite.ConformanceProfileName{suite.GatewayHTTPConformanceProfileName, suite.GatewayGRPCConformanceProfileName}
	ip := gatewayv1.IPAddressType
	o.UsableNetworkAddresses = []gatewayv1.GatewaySpecAddress{{Type: &ip, Value: staticAddresses + "1"}}
	o.UnusableNetworkAddresses = []gatewayv1.GatewaySpecAddress{{Type: &ip, Value: "192.0.2.1"}}
	o.TimeoutConfig = config.DefaultTimeoutConfig()
	o.CleanupTestResources = true
	o.DisableParallelTests = true // the machine may be small
	o.RunTest = os.Getenv("MCPGW_CONFORMANCE_TEST")
	if o.RunTest != "" {
		for _, f := range class.Status.SupportedFeatures {
			o.SupportedFeatures = append(o.SupportedFeatures, features.FeatureName(f.Name))
		}
	} else {
		o.ReportOutputPath = os.Getenv("MCPGW_CONFORMANCE_REPORT")
	}
	o.Implementation = confv1.Implementation{
		Organization: "mcpgw", Project: "mcpgw", URL: "https://github.com/mcpgw/mcpgw", Version: "devel", Contact: []string{"https://github.com/mcpgw/mcpgw/issues"},
	}
	conformance.RunConformanceWithOptions(t, o)
}
