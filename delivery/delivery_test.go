package delivery_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// account is the ServiceAccount of the tests, other one that has a Gateway of its own.
var (
	account = types.NamespacedName{Namespace: "team", Name: "gw"}
	other   = types.NamespacedName{Namespace: "team", Name: "other"}
)

// A journal is a log that tests wait for. It is safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A controller is a server with its address and certificate.
type controller struct {
	*delivery.Server
	addr, ca string
	log      *journal
	tls      *tls.Config
	stop     func()
}

// newController serves at an address, which may be that of one that has ended.
func newController(t *testing.T, addr string) *controller {
	t.Helper()
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	c := &controller{log: &journal{}, ca: filepath.Join(t.TempDir(), "ca.crt"), tls: https.TLS}
	if err := os.WriteFile(c.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Server = delivery.NewServer(delivery.ServerOptions{
		Logger: slog.New(slog.NewTextHandler(c.log, nil)),
		Authenticate: func(_ context.Context, token string) (types.NamespacedName, error) {
			namespace, name, ok := strings.Cut(token, ":")
			switch {
			case token == "broken":
				return types.NamespacedName{}, errors.New("the API server is away")
			case !ok:
				return types.NamespacedName{}, fmt.Errorf("%w: it is made up", delivery.ErrStranger)
			}
			return types.NamespacedName{Namespace: namespace, Name: name}, nil
		},
	})
	var l net.Listener
	eventually(t, "the address is free", func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	c.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := c.Serve(ctx, l, &tls.Config{Certificates: c.tls.Certificates, NextProtos: []string{"h2"}}); err != nil {
			t.Error(err)
		}
	})
	c.stop = func() { cancel(); serving.Wait() }
	t.Cleanup(c.stop)
	return c
}

// A plane is a data plane that keeps what it is delivered.
type plane struct {
	log  *journal
	stop func()

	mu      sync.Mutex
	applied []*config.Resources
	keys    [][]byte
}

// follow runs a data plane.
func follow(t *testing.T, c *controller, token, cache string) *plane {
	t.Helper()
	p := &plane{log: &journal{}}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := delivery.NewSource(delivery.SourceOptions{
		Address: c.addr, CAFile: c.ca, TokenFile: file, CacheFile: cache, Node: "one", Logger: slog.New(slog.NewTextHandler(p.log, nil)),
		SetSessionKeys: func(keys [][]byte) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.keys = keys
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := source.Run(ctx, func(res *config.Resources) *config.Report {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.applied = append(p.applied, res)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	p.stop = func() { cancel(); running.Wait() }
	t.Cleanup(p.stop)
	return p
}

// names returns what was delivered last, and how often something was.
func (p *plane) names() (names []string, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) == 0 {
		return nil, 0
	}
	r := p.applied[len(p.applied)-1]
	for _, o := range r.Gateways {
		names = append(names, "Gateway "+o.Name)
	}
	for _, o := range r.Backends {
		names = append(names, fmt.Sprintf("Backend %s %d", o.Name, o.Spec.MCP.Targets[0].Static.Port))
	}
	for _, o := range r.Secrets {
		names = append(names, fmt.Sprintf("Secret %s %s", o.Name, o.Data["Authorization"]))
	}
	slices.Sort(names)
	return names, len(p.applied)
}

// has waits until the data plane has what is named.
func (p *plane) has(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "the data plane has it", func() error {
		got, _ := p.names()
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("-want +got:\n%s\n%s", diff, p.log)
		}
		return nil
	})
}

// says waits until a log holds text.
func (j *journal) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() error {
		if !strings.Contains(j.String(), text) {
			return errors.New(j.String())
		}
		return nil
	})
}

func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

// object returns an entry of a set.
func object(name string, v map[string]any) func(delivery.Set) {
	parts := strings.Split(name, "/")
	v["kind"] = parts[0]
	v["metadata"] = map[string]any{"namespace": parts[1], "name": parts[2]}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return func(s delivery.Set) { s[name] = delivery.NewObject(text) }
}

func gatewayObject() func(delivery.Set) {
	return object("Gateway/team/gw", map[string]any{"apiVersion": "gateway.networking.k8s.io/v1"})
}

func backend(name string, port int) func(delivery.Set) {
	return object("Backend/team/"+name, map[string]any{
		"apiVersion": "gateway.kgateway.dev/v1alpha1",
		"spec":       map[string]any{"type": "MCP", "mcp": map[string]any{"targets": []any{map[string]any{"name": "a", "static": map[string]any{"host": "a.test", "port": port}}}}},
	})
}

func secretObject(token string) func(delivery.Set) {
	return object("Secret/team/s", map[string]any{"apiVersion": "v1", "data": map[string]any{"Authorization": []byte(token)}})
}

// publish publishes a set for the account of the tests, and an empty one for the other.
func (c *controller) publish(objects ...func(delivery.Set)) {
	set := delivery.Set{}
	for _, add := range objects {
		add(set)
	}
	set.SetSessionKeys([][]byte{bytes.Repeat([]byte{1}, 32)})
	c.Publish(map[types.NamespacedName]delivery.Set{account: set, other: {}})
}

// TestChanges hands out what there is and then each change; a data plane that waits for the first gets
// it once it is there.
func TestChanges(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	p := follow(t, c, "team:gw", "")
	c.log.says(t, "a data plane is connected")
	c.publish(gatewayObject(), backend("a", 1), secretObject("one"))
	p.has(t, "Backend a 1", "Gateway gw", "Secret s one")
	if got := c.Connected(account); got != 1 {
		t.Errorf("%d data planes are connected", got)
	}
	c.publish(gatewayObject(), backend("a", 2), backend("b", 1))
	p.has(t, "Backend a 2", "Backend b 1", "Gateway gw")
	_, before := p.names()
	c.publish(gatewayObject(), backend("a", 2), backend("b", 1)) // the same
	c.publish(gatewayObject())
	p.has(t, "Gateway gw")
	if _, after := p.names(); after != before+1 {
		t.Errorf("%d changes were applied, there was one", after-before)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) != 1 || len(p.keys[0]) != 32 {
		t.Errorf("the session keys are %d", len(p.keys))
	}
}

// TestOwn: a data plane gets what is its ServiceAccount's, and nobody else anything.
func TestOwn(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), secretObject("one"))
	follow(t, c, "team:gw", "").has(t, "Gateway gw", "Secret s one")
	for token, want := range map[string]string{
		"made-up":     "Unauthenticated",
		"broken":      "can't be checked just now",
		"team:absent": "no Gateway is served by ServiceAccount team/absent",
	} {
		p := follow(t, c, token, "")
		p.log.says(t, want)
		if got, _ := p.names(); got != nil {
			t.Errorf("token %s gets %v", token, got)
		}
	}
	p := follow(t, c, "team:other", "")
	eventually(t, "something is delivered", func() error {
		if _, times := p.names(); times == 0 {
			return errors.New("nothing")
		}
		return nil
	})
	if got, _ := p.names(); got != nil {
		t.Errorf("the other Gateway gets %v", got)
	}
}

// TestResume: while the controller is gone a data plane keeps what it has; one that is back sends what differs only,
// even to a data plane that never met it.
func TestResume(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), backend("a", 1))
	p := follow(t, c, "team:gw", "")
	p.has(t, "Backend a 1", "Gateway gw")
	c.stop()
	p.log.says(t, "can't be followed, what is known stays in use")
	p.has(t, "Backend a 1", "Gateway gw")
	again := newController(t, c.addr)
	again.publish(gatewayObject(), backend("a", 1))
	again.log.says(t, "a data plane is connected")
	_, before := p.names()
	again.publish(gatewayObject(), backend("a", 2))
	p.has(t, "Backend a 2", "Gateway gw")
	if _, after := p.names(); after != before+1 {
		t.Errorf("%d changes were applied, there was one", after-before)
	}
}

// TestRefuse: what a data plane can't read it refuses as a whole, says why, and takes the next that it can.
func TestRefuse(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), backend("a", 1))
	p := follow(t, c, "team:gw", "")
	p.has(t, "Backend a 1", "Gateway gw")
	c.publish(gatewayObject(), backend("a", 2), object("Novelty/team/n", map[string]any{}))
	c.log.says(t, "Novelty/team/n is of a kind that this version does not know")
	p.has(t, "Backend a 1", "Gateway gw")
	c.publish(gatewayObject(), backend("a", 3))
	p.has(t, "Backend a 3", "Gateway gw")
	if n := strings.Count(c.log.String(), "a data plane refuses"); n != 1 {
		t.Errorf("what is refused was sent %d times", n)
	}
}

// TestBroken: an object with a mistake is taken, as broken.
func TestBroken(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), object("TrafficPolicy/team/p", map[string]any{
		"apiVersion": "gateway.kgateway.dev/v1alpha1", "spec": map[string]any{"targetRefs": []any{map[string]any{"kind": "Gateway", "name": "gw", "group": "gateway.networking.k8s.io"}}, "rbac": 7},
	}))
	p := follow(t, c, "team:gw", "")
	p.has(t, "Gateway gw")
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.applied[0]; !r.Broken[config.ObjectRef{Kind: "TrafficPolicy", Namespace: "team", Name: "p"}] || len(r.TrafficPolicies) != 1 {
		t.Errorf("broken are %v", r.Broken)
	}
}

// TestCache: what came last is served by a start without the controller, from a file that nobody else may read. One that
// can't be used is left.
func TestCache(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), backend("a", 1), secretObject("one"))
	cache := filepath.Join(t.TempDir(), "cache")
	p := follow(t, c, "team:gw", cache)
	p.has(t, "Backend a 1", "Gateway gw", "Secret s one")
	eventually(t, "the file is there", func() error { _, err := os.Stat(cache); return err })
	p.stop()
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(cache)); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
	c.stop()
	second := follow(t, c, "team:gw", cache)
	second.has(t, "Backend a 1", "Gateway gw", "Secret s one")
	second.mu.Lock()
	if len(second.keys) != 1 {
		t.Error("the session keys were not kept")
	}
	second.mu.Unlock()
	second.stop()
	for _, text := range []string{"{", `{"format":2,"objects":{}}`, `{"format":1,"objects":{"Novelty//n":{}}}`} {
		if err := os.WriteFile(cache, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		third := follow(t, c, "team:gw", cache)
		third.log.says(t, "what was kept is not used")
		third.stop()
	}
}

// TestToken: the token is read for each connection, and one that is missing is said.
func TestToken(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject())
	p := follow(t, c, "", "")
	p.log.says(t, "holds no token")
}
