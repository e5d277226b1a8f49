package delivery_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/delivery"
)

const typeURL = "type.mcpgw.dev/object+json"

// dial opens a stream to a controller, with header lines of its own.
func dial(t *testing.T, c *controller, header ...string) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	authority, err := os.ReadFile(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), header...))
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestProtocol sends what no data plane of ours does: it is told why that is not taken.
func TestProtocol(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject(), backend("a", 1))
	have := func(n int) map[string]string {
		out := make(map[string]string, n)
		for i := range n {
			out[fmt.Sprint("Secret/x/", i)] = "v"
		}
		return out
	}
	first := func(n int) *discoveryv3.DeltaDiscoveryRequest {
		return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, InitialResourceVersions: have(n)}
	}
	token := []string{"authorization", "Bearer team:gw"}
	for _, tt := range []struct {
		name   string
		header []string
		send   []*discoveryv3.DeltaDiscoveryRequest
		want   codes.Code
	}{
		{"no token", nil, nil, codes.Unauthenticated},
		{"two tokens", append(token, token...), nil, codes.Unauthenticated},
		{"no bearer token", []string{"authorization", "Basic team:gw"}, nil, codes.Unauthenticated},
		{"an empty token", []string{"authorization", "Bearer "}, nil, codes.Unauthenticated},
		{"another type", token, []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}}, codes.InvalidArgument},
		{"an answer to nothing", token, []*discoveryv3.DeltaDiscoveryRequest{first(0), {TypeUrl: typeURL, ResponseNonce: "77"}}, codes.InvalidArgument},
		{"as many objects as may be", token, []*discoveryv3.DeltaDiscoveryRequest{first(100_000)}, codes.OK},
		{"one more", token, []*discoveryv3.DeltaDiscoveryRequest{first(100_001)}, codes.ResourceExhausted},
	} {
		stream := dial(t, c, tt.header...)
		for _, r := range tt.send {
			if err := stream.Send(r); err != nil {
				break // Recv says why
			}
		}
		var err error
		for range len(tt.send) + 1 {
			var response *discoveryv3.DeltaDiscoveryResponse
			if response, err = stream.Recv(); err != nil {
				break
			}
			if tt.want == codes.OK {
				if len(response.GetRemovedResources()) != 100_000 || len(response.GetResources()) != 3 {
					t.Errorf("%s: %d are to go, %d come", tt.name, len(response.GetRemovedResources()), len(response.GetResources()))
				}
				break
			}
		}
		if status.Code(err) != tt.want {
			t.Errorf("%s: %v, not %v", tt.name, err, tt.want)
		}
	}
}

// TestTooLarge: what is more than a message can hold is said, and what a data plane has stays.
func TestTooLarge(t *testing.T) {
	c := newController(t, "127.0.0.1:0")
	c.publish(gatewayObject())
	p := follow(t, c, "team:gw", "")
	p.has(t, "Gateway gw")
	set := delivery.Set{}
	gatewayObject()(set)
	object("Secret/team/large", map[string]any{"stringData": map[string]any{"x": strings.Repeat("x", 64<<20)}})(set)
	c.Publish(map[types.NamespacedName]delivery.Set{account: set})
	c.log.says(t, "more than a message can hold")
	p.has(t, "Gateway gw")
	c.publish(gatewayObject(), backend("a", 1))
	p.has(t, "Backend a 1", "Gateway gw")
}
