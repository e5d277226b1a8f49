package conformance

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/internal/testkube"
)

const node = "node"

// A kubelet is the scheduler and the only node of a cluster: it runs the first container of each Pod as a process in a network namespace
// of its own, with paths in its arguments and variables in place of mounts. One goroutine runs it.
type kubelet struct {
	*cluster
	running sync.WaitGroup
	given   int // networks

	mu   sync.Mutex
	pods map[types.UID]*pod
}

// A pod is a Pod that runs.
type pod struct {
	name  string // and namespace
	ip    string
	cmd   *exec.Cmd // nil when nothing of the image runs
	log   *lines
	ready bool
}

// lines keeps what a container writes, with times. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	part []byte
	all  []line
}

type line struct {
	at   time.Time
	text string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		text, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.all = append(l.all, line{time.Now(), string(text)})
		l.part = rest
	}
}

// since writes the lines from a time on.
func (l *lines) since(w io.Writer, from time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if !line.at.Before(from) {
			fmt.Fprintln(w, line.text)
		}
	}
}

// run makes the node known and runs Pods until ctx ends.
func (k *kubelet) run(ctx context.Context) error {
	defer k.running.Wait()
	k.pods = map[types.UID]*pod{}
	defer func() {
		for _, p := range k.pods {
			p.end()
		}
	}()
	port, err := k.serveLogs(ctx)
	if err != nil {
		return err
	}
	n, err := k.clients.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: testkube.Network}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	if _, err := k.clients.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		list, err := k.clients.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err == nil {
			there := map[types.UID]bool{}
			for i := range list.Items {
				p := &list.Items[i]
				there[p.UID] = true
				if err := k.sync(ctx, p); err != nil && ctx.Err() == nil {
					fmt.Printf("the kubelet asks again for Pod %s/%s after: %v\n", p.Namespace, p.Name, err)
				}
			}
			k.forget(there)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// forget ends what runs for Pods that are gone.
func (k *kubelet) forget(there map[types.UID]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, p := range k.pods {
		if !there[uid] {
			p.end()
			delete(k.pods, uid)
		}
	}
}

func (p *pod) end() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
	}
}

// sync takes a Pod one step on.
func (k *kubelet) sync(ctx context.Context, p *corev1.Pod) error {
	pods := k.clients.CoreV1().Pods(p.Namespace)
	k.mu.Lock()
	running := k.pods[p.UID]
	k.mu.Unlock()
	switch {
	case p.DeletionTimestamp != nil:
		if running != nil {
			running.end()
		}
		now := int64(0)
		return pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID}})
	case p.Spec.NodeName == "":
		return pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{})
	case running == nil:
		running, err := k.start(ctx, p)
		if err != nil {
			return err
		}
		k.mu.Lock()
		k.pods[p.UID] = running
		k.mu.Unlock()
		return nil
	case !running.ready && serves(&p.Spec.Containers[0], running):
		if err := k.say(ctx, p, running); err != nil {
			return err
		}
		running.ready = true
	}
	return nil
}

// serves reports whether a container is ready: by its probe, or else when it takes connections at the port of the echo server.
func serves(c *corev1.Container, p *pod) bool {
	if p.cmd == nil {
		return true // nothing runs
	}
	if probe := c.ReadinessProbe; probe != nil && probe.HTTPGet != nil {
		client := http.Client{Timeout: time.Second}
		response, err := client.Get(fmt.Sprintf("http://%s:%s%s", p.ip, probe.HTTPGet.Port.String(), probe.HTTPGet.Path))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	for _, e := range c.Env {
		if e.Name == "UDP_ECHO_SERVER" {
			return true
		}
	}
	connection, err := net.DialTimeout("tcp", p.ip+":3000", time.Second)
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// say writes that a Pod is ready.
func (k *kubelet) say(ctx context.Context, p *corev1.Pod, running *pod) error {
	now, yes := metav1.Now(), true
	p.Status.Phase, p.Status.StartTime = corev1.PodRunning, &now
	p.Status.HostIP, p.Status.HostIPs = testkube.Network, []corev1.HostIP{{IP: testkube.Network}}
	p.Status.PodIP, p.Status.PodIPs = running.ip, []corev1.PodIP{{IP: running.ip}}
	p.Status.Conditions = nil
	for _, c := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	p.Status.ContainerStatuses = nil
	for _, c := range p.Spec.Containers {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &yes, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	_, err := k.clients.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
	return err
}

// start runs a Pod. Its volumes have to be there.
func (k *kubelet) start(ctx context.Context, p *corev1.Pod) (*pod, error) {
	c := &p.Spec.Containers[0]
	var binary string
	switch {
	case strings.HasPrefix(c.Image, image):
		binary = k.gateway
	case strings.Contains(c.Image, "/echo-basic:"):
		binary = k.echo
	}
	var moved []string // mount path, and where it is
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		dir := filepath.Join(k.dir, "pods", string(p.UID), v.Name)
		if err := k.fill(ctx, p, v, dir); err != nil {
			return nil, err
		}
		for _, m := range c.VolumeMounts {
			if m.Name == v.Name {
				moved = append(moved, m.MountPath, dir)
			}
		}
	}
	n := k.given
	k.given++
	running := &pod{name: p.Namespace + "/" + p.Name, ip: fmt.Sprintf("10.245.%d.%d", n/64, n%64*4+2), log: &lines{}}
	if binary == "" {
		return running, nil
	}
	variables, env := map[string]string{}, []string{"PATH=" + os.Getenv("PATH")}
	expand := func(s string) string {
		for name, value := range variables {
			s = strings.ReplaceAll(s, "$("+name+")", value)
		}
		return strings.NewReplacer(moved...).Replace(s)
	}
	for _, e := range c.Env {
		value := expand(e.Value)
		if f := e.ValueFrom; f != nil && f.FieldRef != nil {
			switch f.FieldRef.FieldPath {
			case "status.podIP":
				value = running.ip
			case "metadata.namespace":
				value = p.Namespace
			case "metadata.name":
				value = p.Name
			default:
				return nil, fmt.Errorf("the field %s of a Pod is not known here", f.FieldRef.FieldPath)
			}
		}
		variables[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	var args []string
	for _, a := range c.Args {
		args = append(args, expand(a))
	}
	if err := k.begin(ctx, running, n, env, append([]string{binary}, args...)); err != nil {
		return nil, fmt.Errorf("running it: %w", err)
	}
	return running, nil
}

// begin starts a process in a network namespace of its own, which is linked to all others.
func (k *kubelet) begin(ctx context.Context, p *pod, n int, env, command []string) error {
	gateway := fmt.Sprintf("10.245.%d.%d", n/64, n%64*4+1)
	setUp := fmt.Sprintf(`read -r go && ip addr add %s/30 dev eth0 && ip link set eth0 up && ip link set lo up && ip route add default via %s && exec "$@"`, p.ip, gateway)
	p.cmd = exec.Command("sh", append([]string{"-c", setUp, "pod"}, command...)...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	k.running.Go(func() { _ = p.cmd.Wait() })
	link := fmt.Sprintf("pod%d", n)
	for _, command := range [][]string{
		{"ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(p.cmd.Process.Pid)},
		{"ip", "addr", "add", gateway + "/30", "dev", link},
		{"ip", "link", "set", link, "up"},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			p.end()
			return fmt.Errorf("%v: %w: %s", command, err, out)
		}
	}
	_, err = io.WriteString(stdin, "go\n")
	return errors.Join(err, stdin.Close())
}

// fill writes what a volume holds to a folder.
func (k *kubelet) fill(ctx context.Context, p *corev1.Pod, v *corev1.Volume, dir string) error {
	files := map[string][]byte{}
	var items []corev1.KeyToPath
	switch {
	case v.Secret != nil:
		s, err := k.clients.CoreV1().Secrets(p.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		files, items = s.Data, v.Secret.Items
	case v.ConfigMap != nil:
		m, err := k.clients.CoreV1().ConfigMaps(p.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for name, text := range m.Data {
			files[name] = []byte(text)
		}
		items = v.ConfigMap.Items
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken == nil {
				continue // the API server's own, which nothing here reads
			}
			t, err := k.clients.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, p.Spec.ServiceAccountName,
				&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{s.ServiceAccountToken.Audience}}}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			files[s.ServiceAccountToken.Path] = []byte(t.Status.Token)
		}
	}
	if len(items) > 0 {
		chosen := map[string][]byte{}
		for _, i := range items {
			chosen[i.Path] = files[i.Key]
		}
		files = chosen
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// serveLogs serves what the API server asks when a client reads the log of a Pod, and returns the port.
func (k *kubelet) serveLogs(ctx context.Context) (int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.ParseIP(testkube.Network)}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return 0, err
	}
	l, err := tls.Listen("tcp", testkube.Network+":0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}})
	if err != nil {
		return 0, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		from, _ := time.Parse(time.RFC3339, r.URL.Query().Get("sinceTime")) // all, without
		k.mu.Lock()
		var log *lines
		for _, p := range k.pods {
			if p.name == r.PathValue("namespace")+"/"+r.PathValue("pod") {
				log = p.log
			}
		}
		k.mu.Unlock()
		if log == nil {
			http.NotFound(w, r)
			return
		}
		log.since(w, from)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	k.running.Go(func() { _ = server.Serve(l) })
	return l.Addr().(*net.TCPAddr).Port, nil
}
