package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// A balancer gives each Service of type LoadBalancer an address of its own, the one that it asks for if that is a static one, and passes connections to it on to an endpoint that is
// ready. One goroutine runs it.
type balancer struct {
	clients *kubernetes.Clientset
	running sync.WaitGroup
	given   int // addresses
	known   map[types.UID]*balanced
}

// staticAddresses begins the addresses that a Service can ask for.
const staticAddresses = "10.244.250."

// A balanced is a Service that has its address.
type balanced struct {
	asked, address string
	ports          map[int32]context.CancelFunc
}

func (k *balanced) close() {
	for _, closePort := range k.ports {
		closePort()
	}
}

// run follows Services until ctx ends.
func (b *balancer) run(ctx context.Context) error {
	defer b.running.Wait()
	b.known = map[types.UID]*balanced{}
	for ctx.Err() == nil {
		services, err := b.clients.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err == nil {
			for i := range services.Items {
				if s := &services.Items[i]; s.Spec.Type == corev1.ServiceTypeLoadBalancer {
					err = errors.Join(err, b.sync(ctx, s))
				}
			}
			b.forget(services.Items)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Println("the load balancer goes on after:", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// forget closes the ports of Services that are gone.
func (b *balancer) forget(there []corev1.Service) {
	for uid, s := range b.known {
		gone := true
		for i := range there {
			gone = gone && there[i].UID != uid
		}
		if gone {
			s.close()
			delete(b.known, uid)
		}
	}
}

// sync opens the ports of a Service, and says at which address.
func (b *balancer) sync(ctx context.Context, s *corev1.Service) error {
	asked := s.Spec.LoadBalancerIP
	k := b.known[s.UID]
	if k != nil && asked != k.asked {
		k.close()
		k = nil
	}
	if k == nil {
		k = &balanced{asked: asked, address: asked, ports: map[int32]context.CancelFunc{}}
		if asked == "" {
			b.given++
			k.address = fmt.Sprintf("10.244.%d.%d", 2+b.given/250, 1+b.given%250)
		}
		b.known[s.UID] = k
	}
	if !strings.HasPrefix(k.address, staticAddresses) && asked != "" {
		return b.assign(ctx, s) // it has no such address to give
	}
	wanted := map[int32]bool{}
	for _, p := range s.Spec.Ports {
		if p.Protocol != corev1.ProtocolTCP {
			continue
		}
		wanted[p.Port] = true
		if k.ports[p.Port] != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", k.address, p.Port))
		if err != nil {
			return err
		}
		inner, cancel := context.WithCancel(ctx)
		k.ports[p.Port] = cancel
		context.AfterFunc(inner, func() { _ = l.Close() })
		b.running.Go(func() { b.serve(inner, l, s.Namespace, s.Name, p.Port) })
	}
	for port, closePort := range k.ports {
		if !wanted[port] {
			closePort()
			delete(k.ports, port)
		}
	}
	return b.assign(ctx, s, corev1.LoadBalancerIngress{IP: k.address})
}

// assign says which addresses a Service has.
func (b *balancer) assign(ctx context.Context, s *corev1.Service, addresses ...corev1.LoadBalancerIngress) error {
	if slices.EqualFunc(s.Status.LoadBalancer.Ingress, addresses, func(x, y corev1.LoadBalancerIngress) bool { return x.IP == y.IP }) {
		return nil
	}
	s.Status.LoadBalancer.Ingress = addresses
	_, err := b.clients.CoreV1().Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{})
	return err
}

// serve passes connections to a port of a Service on.
func (b *balancer) serve(ctx context.Context, l net.Listener, namespace, name string, port int32) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() {
			defer client.Close()
			server, err := b.dial(ctx, namespace, name, port)
			if err != nil {
				return
			}
			defer server.Close()
			stop := context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })
			defer stop()
			var both sync.WaitGroup
			both.Go(func() { pass(server, client) })
			both.Go(func() { pass(client, server) })
			both.Wait()
		})
	}
}

// pass copies what one side says to the other, to its end.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}

// dial connects to an endpoint that is ready.
func (b *balancer) dial(ctx context.Context, namespace, name string, port int32) (net.Conn, error) {
	slices, err := b.clients.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name, ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || !*e.Conditions.Ready {
				continue
			}
			for _, address := range e.Addresses {
				// Data planes have the ports of their Service.
				if c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", address, port), time.Second); err == nil {
					return c, nil
				}
			}
		}
	}
	return nil, errors.New("no endpoint is ready")
}
