// Package conformance runs the official conformance suite of the Gateway API against `mcpgw controller` and the data
// planes that it deploys, with a real API server.
//
// Upstream's controllers make Pods and EndpointSlices of the suite's Deployments and Services and of the gateway's own. A kubelet of ours runs each
// Pod as a process in a network namespace of its own: the suite's echo server, or the built gateway. What the cluster's load balancer
// would do, [balancer] does.
package conformance

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/testkube"
	"github.com/mcpgw/mcpgw/internal/testns"
)

func TestMain(m *testing.M) {
	if !testns.Inside() {
		os.Exit(testns.Again(syscall.CLONE_NEWPID))
	}
	os.Exit(m.Run()) // what is left ends with the namespaces
}

// A cluster is all that is there before the gateway.
type cluster struct {
	dir, kubeconfig string
	plane           *envtest.Environment
	clients         *kubernetes.Clientset
	gateway, echo   string // binaries
}

// newCluster builds what is tested and starts a cluster, until the test ends.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctrllog.SetLogger(logr.Discard()) // envtest's
	c := &cluster{dir: t.TempDir()}
	c.gateway, c.echo, c.kubeconfig = filepath.Join(c.dir, "mcpgw"), filepath.Join(c.dir, "echo-basic"), filepath.Join(c.dir, "kubeconfig")
	for _, build := range [][]string{
		{"-o", c.gateway, "-ldflags", "-X main.version=conformance", "github.com/mcpgw/mcpgw/cmd/mcpgw"},
		{"-o", c.echo, "sigs.k8s.io/gateway-api/conformance/echo-basic"},
	} {
		if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build"}, build...)...).CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", build[len(build)-1], err, out)
		}
	}
	if err := testns.RaiseLoopback(testkube.Network); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil { // from Pod to Pod
		t.Fatal(err)
	}
	tools, err := testkube.Tools(filepath.Join("..", "..", "hack", "kube"))
	if err != nil {
		t.Fatal(err)
	}
	c.startPlane(t, tools)
	c.run(t, "kube-controller-manager", filepath.Join(tools, "kube-controller-manager"), "--kubeconfig", c.kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,endpointslice-controller,namespace-controller,garbage-collector-controller,serviceaccount-controller")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	k := &kubelet{cluster: c}
	go func() { done <- k.run(ctx) }()
	b := &balancer{clients: c.clients}
	balanced := make(chan error, 1)
	go func() { balanced <- b.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for _, err := range []error{<-done, <-balanced} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// channel returns the channel of the Gateway API that is installed: standard, unless MCPGW_CONFORMANCE_CHANNEL says experimental.
func channel() string { return cmp.Or(os.Getenv("MCPGW_CONFORMANCE_CHANNEL"), "standard") }

// startPlane starts etcd and the API server, with the definitions of the Gateway API and of the gateway's own kinds.
func (c *cluster) startPlane(t *testing.T, tools string) {
	t.Helper()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("looking for the Gateway API: %v", err)
	}
	c.plane = &envtest.Environment{
		BinaryAssetsDirectory:    tools,
		CRDDirectoryPaths:        []string{filepath.Join(strings.TrimSpace(string(module)), "config", "crd", channel())},
		ErrorIfCRDPathMissing:    true,
		CRDs:                     v1alpha1.CRDs(),
		ControlPlaneStartTimeout: 3 * time.Minute,
		ControlPlaneStopTimeout:  time.Second, // then it is killed
	}
	server := c.plane.ControlPlane.GetAPIServer().Configure()
	server.Set("advertise-address", testkube.Network)
	server.Set("kubelet-preferred-address-types", "InternalIP")
	if _, err := c.plane.Start(); err != nil {
		t.Fatalf("starting the control plane: %v", err)
	}
	t.Cleanup(func() { _ = c.plane.Stop() }) // what is left ends with the namespaces
	if err := os.WriteFile(c.kubeconfig, c.plane.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	c.plane.Config.QPS, c.plane.Config.Burst = 500, 1000
	c.clients, err = kubernetes.NewForConfig(c.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program until the test ends. What it says is shown when the test fails.
func (c *cluster) run(t *testing.T, name, binary string, args ...string) {
	t.Helper()
	path := filepath.Join(c.dir, name+".log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_, _ = log.Seek(0, io.SeekStart)
		text, _ := io.ReadAll(log)
		_ = log.Close()
		if t.Failed() {
			fmt.Fprintf(os.Stderr, "the log of %s:\n%s\n", name, text[max(0, len(text)-20000):])
		}
	})
}
