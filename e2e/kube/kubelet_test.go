package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// runPod runs what a Deployment says as a process, as a kubelet does with a Pod of it: with its arguments, variables and volumes, and with
// paths in all of them in place of mounts. It ends with the test. The Pod has the address host, and more in its environment.
func runPod(t testing.TB, namespace, deployment, host string, more ...string) *gateway {
	t.Helper()
	var d appsv1.Deployment
	testgateway.Eventually(t, "Deployment "+deployment+" is there", func() error {
		out, err := try(t, "", "get", "deployment", deployment, "-n", namespace, "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return json.Unmarshal([]byte(out), &d)
	})
	pod := d.Spec.Template.Spec
	container := pod.Containers[0]
	dir := t.TempDir()
	var moved []string // mount path, and where it is
	for _, v := range pod.Volumes {
		at := filepath.Join(dir, v.Name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		fill(t, namespace, pod.ServiceAccountName, at, &v)
		for _, m := range container.VolumeMounts {
			if m.Name == v.Name {
				moved = append(moved, m.MountPath, at)
			}
		}
	}
	variables := map[string]string{}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MCPGW_") })
	expand := func(s string) string {
		for name, value := range variables {
			s = strings.ReplaceAll(s, "$("+name+")", value)
		}
		return strings.NewReplacer(moved...).Replace(s)
	}
	for _, e := range container.Env {
		value := expand(e.Value)
		if f := e.ValueFrom; f != nil && f.FieldRef != nil {
			switch f.FieldRef.FieldPath {
			case "status.podIP":
				value = host
			case "metadata.namespace":
				value = namespace
			default:
				t.Fatalf("the field %s of a Pod is not known here", f.FieldRef.FieldPath)
			}
		}
		variables[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	var args []string
	for _, a := range container.Args {
		args = append(args, expand(a))
	}
	probe := container.ReadinessProbe.HTTPGet.Port
	for _, p := range container.Ports {
		if probe.Type == intstr.String && p.Name == probe.StrVal {
			probe = intstr.FromInt32(p.ContainerPort)
		}
	}
	g := &gateway{Gateway: &testgateway.Gateway{Ready: host + ":" + probe.String()}, mounted: map[string]string{}}
	for i := 0; i < len(moved); i += 2 {
		g.mounted[moved[i]] = moved[i+1]
	}
	env = append(env, more...)
	if host != "127.0.0.1" {
		g.Process = startApart(t, env, args, host)
		return g
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = env
	g.Process = testgateway.Start(t, cmd)
	return g
}

// podHost returns the address of the n-th Pod that has a network of its own.
func podHost(n int) string { return fmt.Sprintf("10.245.%d.2", n) }

// startApart starts a Pod in a network namespace of its own, in which it has the address host, and which is reached from all
// others: so Pods of one Deployment may have the same ports.
func startApart(t testing.TB, env, args []string, host string) *testgateway.Process {
	t.Helper()
	network := strings.TrimSuffix(host, ".2")
	// Its link is there once it may go on.
	setUp := fmt.Sprintf(`read -r go && ip addr add %s/30 dev eth0 && ip link set eth0 up && ip link set lo up && ip route add default via %s.1 && exec "$@"`, host, network)
	cmd := exec.Command("sh", append([]string{"-c", setUp, "mcpgw", binary}, args...)...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := testgateway.Start(t, cmd)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := "pod" + strings.ReplaceAll(strings.TrimPrefix(network, "10.245."), ".", "-")
	for _, command := range [][]string{
		{"ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(cmd.Process.Pid)},
		{"ip", "addr", "add", network + ".1/30", "dev", link},
		{"ip", "link", "set", link, "up"},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", link).Run() }) // it may be gone with the Pod
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	_ = stdin.Close()
	return p
}

// fill writes what a volume holds to a folder.
func fill(t testing.TB, namespace, account, dir string, v *corev1.Volume) {
	t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			write(s.ServiceAccountToken.Path, kubectl(t, "create", "token", account, "-n", namespace, "--audience", s.ServiceAccountToken.Audience))
		}
	case v.ConfigMap != nil:
		var m corev1.ConfigMap
		if err := json.Unmarshal([]byte(kubectl(t, "get", "configmap", v.ConfigMap.Name, "-n", namespace, "-o", "json")), &m); err != nil {
			t.Fatal(err)
		}
		for name, text := range m.Data {
			write(name, text)
		}
	case v.EmptyDir != nil:
	default:
		t.Fatalf("volume %s is of a kind that is not known here", v.Name)
	}
}

// readyPods says how many Pods of a Deployment are ready, as its controller does.
func readyPods(t testing.TB, namespace, deployment string, n int) {
	t.Helper()
	kubectl(t, "patch", "deployment", deployment, "-n", namespace, "--subresource=status", "--type=merge", "-p",
		fmt.Sprintf(`{"status":{"replicas":%[1]d,"readyReplicas":%[1]d}}`, n))
}
