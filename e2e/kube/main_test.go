// Package kube tests the built gateway against a real Kubernetes API server: upstream's
// kube-apiserver, etcd and kubectl, which hack/kube builds.
//
// The test binary runs itself again in a network and process namespace of its own: the API server takes
// no loopback addresses as endpoints, so MCP servers need others, which reach nobody here, and
// nothing outlives the tests. That takes root, or a kernel that gives user namespaces to
// everybody. One control plane serves all tests; each has a Kubernetes namespace and a GatewayClass of its own.
package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/testgateway"
	"github.com/mcpgw/mcpgw/internal/testkube"
	"github.com/mcpgw/mcpgw/internal/testns"
)

// network is the address of the tests.
const network = testkube.Network

var (
	// binary is the gateway under test.
	binary string
	// tools holds kubectl, and what the control plane is.
	tools string
	// plane is the control plane, and kubeconfig the file of its administrator.
	plane      *envtest.Environment
	kubeconfig string
)

func TestMain(m *testing.M) {
	if !testns.Inside() {
		os.Exit(testns.Again(syscall.CLONE_NEWPID))
	}
	os.Exit(testgateway.Main(m, &binary, setUp))
}

// setUp starts the control plane.
func setUp(dir string) (tearDown func(), err error) {
	ctrllog.SetLogger(logr.Discard()) // envtest's
	kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := testns.RaiseLoopback(testkube.Network); err != nil {
		return nil, err
	}
	if tools, err = testkube.Tools(filepath.Join("..", "..", "hack", "kube")); err != nil {
		return nil, err
	}
	return startPlane(dir)
}

// startPlane starts etcd and the API server on loopback, with the definitions of the Gateway API and of the
// gateway's own kinds.
func startPlane(dir string) (stop func(), err error) {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the Gateway API: %w", err)
	}
	plane = &envtest.Environment{
		BinaryAssetsDirectory:    tools,
		CRDDirectoryPaths:        []string{filepath.Join(strings.TrimSpace(string(module)), "config", "crd", "standard")},
		ErrorIfCRDPathMissing:    true,
		CRDs:                     v1alpha1.CRDs(),
		ControlPlaneStartTimeout: 3 * time.Minute,
		ControlPlaneStopTimeout:  time.Second, // then it is killed
	}
	certs := filepath.Join(dir, "apiserver")
	if err := os.Mkdir(certs, 0o700); err != nil {
		return nil, err
	}
	server := plane.ControlPlane.GetAPIServer()
	server.CertDir = certs // stays when the server is started again
	server.Configure().Set("advertise-address", network)
	if _, err := plane.Start(); err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	if err := os.WriteFile(kubeconfig, plane.KubeConfig, 0o600); err != nil {
		return nil, err
	}
	return func() { _ = plane.Stop() }, nil // what is left ends with the namespace
}

// kill ends the API server, with the connections that it has.
func kill() {
	_ = plane.ControlPlane.GetAPIServer().Stop() // it says that a second was not enough
}

// revive starts it again, where it was.
func revive(t testing.TB) {
	t.Helper()
	if err := plane.ControlPlane.GetAPIServer().Start(); err != nil {
		t.Fatal(err)
	}
}
