package delivery_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

// A bubble is a server in a synctest bubble, whose connections are pipes.
type bubble struct {
	*delivery.Server
	registry *prometheus.Registry
	listener *bufconn.Listener
	trusted  *x509.CertPool
	turns    atomic.Int64 // how often OnDataPlanes was called
}

// inBubble runs a test with a server whose clock stands still while anything is going on.
func inBubble(t *testing.T, test func(t *testing.T, b *bubble)) {
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{registry: prometheus.NewRegistry(), listener: bufconn.Listen(1 << 20), trusted: x509.NewCertPool()}
		certificate := https.TLS.Certificates[0]
		b.trusted.AddCert(https.Certificate())
		b.Server = delivery.NewServer(delivery.ServerOptions{
			Logger: slog.New(slog.DiscardHandler), Metrics: delivery.NewMetrics(b.registry), OnDataPlanes: func() { b.turns.Add(1) },
			Authenticate: func(_ context.Context, token string) (types.NamespacedName, error) {
				namespace, name, _ := strings.Cut(token, ":")
				return types.NamespacedName{Namespace: namespace, Name: name}, nil
			},
		})
		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := b.Serve(ctx, b.listener, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}, Time: https.Certificate().NotBefore.Local}); err != nil {
				t.Error(err)
			}
		})
		defer func() { cancel(); serving.Wait() }()
		test(t, b)
	})
}

// dial opens a stream over a pipe, which pass may cut.
func (b *bubble) dial(t *testing.T, pass func(net.Conn) net.Conn) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///example.com", grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: b.trusted, MinVersion: tls.VersionTLS13})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := b.listener.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			return pass(c), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer team:gw"))
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func whole(c net.Conn) net.Conn { return c }

// A frozen connection is one to a process that has stopped: it is open, and nothing goes through it.
type frozen struct {
	net.Conn
	stopped atomic.Bool
	cut     chan struct{}
}

func (f *frozen) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.stopped.Load() {
		<-f.cut
		return 0, io.EOF
	}
	return n, err
}

func (f *frozen) Write(p []byte) (int, error) {
	if f.stopped.Load() {
		<-f.cut
		return 0, io.ErrClosedPipe
	}
	return f.Conn.Write(p)
}

func first(node string, found ...any) *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, Node: &corev3.Node{Id: node}}
	if len(found) > 0 {
		s, err := structpb.NewStruct(map[string]any{"problems": found})
		if err != nil {
			panic(err)
		}
		r.Node.Metadata = s
	}
	return r
}

func send(t *testing.T, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, r *discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// publishOne publishes one Gateway for the account of the tests, of a version.
func (b *bubble) publishOne(version int) (name, hash string) {
	set := delivery.Set{}
	object("Gateway/team/gw", map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "spec": map[string]any{"n": version}})(set)
	b.Publish(map[types.NamespacedName]delivery.Set{account: set})
	return "Gateway/team/gw", set["Gateway/team/gw"].Version
}

// TestSilence: a data plane that does not begin, that does not answer, or whose connection has died is cut off when its time is over, and not
// before; it counts for a while longer, since it may come back.
func TestSilence(t *testing.T) {
	for name, tt := range map[string]struct {
		limit time.Duration
		begin func(t *testing.T, b *bubble, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, conn *frozen)
		knows bool
	}{
		"it does not begin": {10 * time.Second, func(*testing.T, *bubble, discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, *frozen) {
		}, false},
		"it does not answer": {time.Minute, func(t *testing.T, b *bubble, s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, _ *frozen) {
			send(t, s, first("one"))
		}, true},
		"its process stops": {30 * time.Second, func(t *testing.T, b *bubble, s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, conn *frozen) {
			send(t, s, first("one"))
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			send(t, s, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: r.GetNonce()})
			conn.stopped.Store(true)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				b.publishOne(1)
				conn := &frozen{cut: make(chan struct{})}
				stream := b.dial(t, func(c net.Conn) net.Conn { conn.Conn = c; return conn })
				defer close(conn.cut)
				synctest.Wait()
				tt.begin(t, b, stream, conn)
				known := func() int { return len(b.DataPlanes()[account]) }
				want := 0
				if tt.knows {
					want = 1
				}
				time.Sleep(tt.limit - time.Second)
				synctest.Wait()
				if b.Connected(account) != want || known() != want {
					t.Errorf("before its time is over %d are connected, %d known", b.Connected(account), known())
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if b.Connected(account) != 0 || known() != want {
					t.Errorf("after its time %d are connected, %d known", b.Connected(account), known())
				}
				turns := b.turns.Load()
				time.Sleep(delivery.Lingers)
				synctest.Wait()
				if known() != 0 || b.turns.Load() != turns+int64(want) {
					t.Errorf("later %d are known, and it was told %d times", known(), b.turns.Load()-turns)
				}
				if name == "it does not answer" {
					if _, err := stream.Recv(); err != nil {
						t.Error(err)
					}
					if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
						t.Errorf("it is told %v", err)
					}
				}
			})
		})
	}
}

// TestStanding: what data planes have taken, refuse and tell of is known, and each change of it is told; one that comes back
// counts once.
func TestStanding(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		name, one := b.publishOne(1)
		stream := b.dial(t, whole)
		stands := func(what string, want ...delivery.DataPlane) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, b.DataPlanes()[account]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		answer := func(r *discoveryv3.DeltaDiscoveryRequest) {
			t.Helper()
			response, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			r.TypeUrl, r.ResponseNonce = typeURL, response.GetNonce()
			send(t, stream, r)
		}
		send(t, stream, first("one"))
		stands("connected", delivery.DataPlane{Node: "one"})
		answer(&discoveryv3.DeltaDiscoveryRequest{})
		stands("taken", delivery.DataPlane{Node: "one", Gateways: map[string]string{name: one}})
		turns := b.turns.Load()

		_, two := b.publishOne(2)
		answer(&discoveryv3.DeltaDiscoveryRequest{ErrorDetail: &rpcstatus.Status{Message: strings.Repeat("é", 2000)}})
		refuses := b.DataPlanes()[account][0].Refuses
		if len(refuses) > 1030 || !strings.HasPrefix(refuses, "éé") || !strings.HasSuffix(refuses, "é…") {
			t.Errorf("it refuses %d bytes %q", len(refuses), refuses)
		}
		stands("refused", delivery.DataPlane{Node: "one", Gateways: map[string]string{name: one}, Refuses: refuses})
		b.publishOne(1) // back to what it has
		stands("not refused any more", delivery.DataPlane{Node: "one", Gateways: map[string]string{name: one}})
		b.publishOne(2)
		answer(&discoveryv3.DeltaDiscoveryRequest{})
		has := map[string]string{name: two}
		stands("taken", delivery.DataPlane{Node: "one", Gateways: has})
		if n := b.turns.Load() - turns; n != 3 {
			t.Errorf("%d changes were told", n)
		}

		problem := map[string]any{"object": map[string]any{"kind": "Gateway", "namespace": "team", "name": "gw"}, "path": "spec.listeners[0].port", "reason": "PortUnavailable", "message": "no"}
		finding := delivery.Finding{Object: config.ObjectRef{Kind: "Gateway", Namespace: "team", Name: "gw"}, Path: "spec.listeners[0].port", Reason: "PortUnavailable", Message: "no"}
		send(t, stream, first("one", problem))
		stands("with a problem", delivery.DataPlane{Node: "one", Gateways: has, Problems: []delivery.Finding{finding}})
		turns = b.turns.Load()
		send(t, stream, first("one", problem))
		if b.turns.Load() != turns {
			t.Error("the same was told again")
		}
		send(t, stream, first("one", slices.Repeat([]any{problem}, 101)...))
		if n := len(b.DataPlanes()[account][0].Problems); n != 100 {
			t.Errorf("%d problems are kept", n)
		}
		for _, wrong := range []any{"text", 7.0, map[string]any{"object": 7.0}} {
			send(t, stream, first("one", wrong))
			stands(fmt.Sprintf("with %v", wrong), delivery.DataPlane{Node: "one", Gateways: has})
		}

		// It is away for a moment.
		_ = stream.CloseSend()
		synctest.Wait()
		if b.Connected(account) != 0 {
			t.Error("it is still connected")
		}
		stands("away", delivery.DataPlane{Node: "one", Gateways: has})
		stream = b.dial(t, whole)
		again := first("one")
		again.InitialResourceVersions = has
		send(t, stream, again)
		answer(&discoveryv3.DeltaDiscoveryRequest{})
		stands("back", delivery.DataPlane{Node: "one", Gateways: has})
		time.Sleep(2 * delivery.Lingers)
		stands("still", delivery.DataPlane{Node: "one", Gateways: has})
		if err := testutil.GatherAndCompare(b.registry, strings.NewReader(`# HELP mcpgw_controller_answers_total What data planes were sent, by what they said to it: acked, nacked, or silent.
# TYPE mcpgw_controller_answers_total counter
mcpgw_controller_answers_total{result="acked"} 3
mcpgw_controller_answers_total{result="nacked"} 1
# HELP mcpgw_controller_data_planes Data planes that are connected, by their ServiceAccount, which has the name of their Gateway.
# TYPE mcpgw_controller_data_planes gauge
mcpgw_controller_data_planes{gateway="gw",namespace="team"} 1
# HELP mcpgw_controller_publishes_total Changes of what data planes are to have.
# TYPE mcpgw_controller_publishes_total counter
mcpgw_controller_publishes_total 4
# HELP mcpgw_controller_tokens_total Tokens that data planes have shown, by what they proved: accepted, refused, or unverifiable.
# TYPE mcpgw_controller_tokens_total counter
mcpgw_controller_tokens_total{result="accepted"} 2
`), "mcpgw_controller_answers_total", "mcpgw_controller_data_planes", "mcpgw_controller_publishes_total", "mcpgw_controller_tokens_total"); err != nil {
			t.Error(err)
		}
	})
}
