package traffic

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A teller is an external processor that tells something of each message, and keeps what it was told.
type teller struct {
	extprocv3.UnimplementedExternalProcessorServer
	mu   sync.Mutex
	told *corev3.Metadata
}

func (p *teller) Process(s extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		q, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a := &extprocv3.ProcessingResponse{}
		members := map[string]any{"tenant": "blue"}
		switch q.GetRequest().(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			p.mu.Lock()
			p.told = q.GetMetadataContext()
			p.mu.Unlock()
			a.Response = &extprocv3.ProcessingResponse_RequestHeaders{}
		default:
			members = map[string]any{"score": 7}
			a.Response = &extprocv3.ProcessingResponse_ResponseHeaders{}
		}
		a.DynamicMetadata, err = structpb.NewStruct(map[string]any{
			"com.acme": members, "envoy.filters.http.ext_authz": map[string]any{"team": "forged"}, "lonely": "no object",
		})
		if err != nil {
			return err
		}
		if err := s.Send(a); err != nil {
			return err
		}
	}
}

// TestDynamicMetadata is about what services tell of requests: it is in rules, in what a transformation puts into messages, in the access log, and
// another service is shown it.
func TestDynamicMetadata(t *testing.T) {
	t.Parallel()
	_, auth := serveGRPC(t, func(s *grpc.Server) { authv3.RegisterAuthorizationServer(s, new(authServer)) })
	processor := new(teller)
	_, proc := serveGRPC(t, func(s *grpc.Server) { extprocv3.RegisterExternalProcessorServer(s, processor) })
	tenants := make(chan string, 1)
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		tenants <- r.Header.Get("X-Tenant")
		_, _ = io.WriteString(w, "ok")
	})
	file := filepath.Join(t.TempDir(), "access.log")
	g := start(t, grpcBackend("auth", auth)+grpcBackend("proc", proc)+testgateway.Backend("up", "", up)+
		gatewayExtension("auth", "extAuth: {grpcService: {"+toBackend+"auth}}}")+
		gatewayExtension("proc", "extProc: {grpcService: {"+toBackend+"proc}}, failOpen: false, messageTimeout: 30s, metadataOptions: {forwarding: {untyped: [envoy.filters.http.ext_authz]}}}")+
		testgateway.Route("r", "/", "up", "")+testgateway.TrafficPolicy("p", "r", `extAuth: {extensionRef: {name: auth}}
  extProc: {extensionRef: {name: proc}}
  rbac: {policy: {matchExpressions: ["metadata.filter_metadata['envoy.filters.http.ext_authz'].team == 'blue'"]}}
  transformation:
    request: {set: [{name: x-tenant, value: "metadata.filter_metadata['com.acme'].tenant + ' of ' + extauthz.team"}]}`)+`apiVersion: gateway.kgateway.dev/v1alpha1
kind: HTTPListenerPolicy
metadata: {name: logs}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  accessLog:
  - fileSink:
      path: `+file+`
      jsonFormat: {acme: "%DYNAMIC_METADATA(com.acme)%", score: "%DYNAMIC_METADATA(com.acme:score)%", team: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:team)%", other: "%DYNAMIC_METADATA(lonely)%"}
---
`)
	if got := g.Ask(t, "GET", "/", nil); got.Status != http.StatusOK {
		t.Fatalf("answer %d %q", got.Status, got.Body)
	}
	if got := <-tenants; got != "blue of blue" {
		t.Errorf("the backend got %q", got)
	}
	processor.mu.Lock()
	shown := processor.told.GetFilterMetadata()["envoy.filters.http.ext_authz"].GetFields()["team"].GetStringValue()
	processor.mu.Unlock()
	if shown != "blue" {
		t.Errorf("the processor was shown %q", shown)
	}
	const want = `{"acme":{"score":7,"tenant":"blue"},"other":null,"score":7,"team":"blue"}`
	testgateway.Until(t, "the access log is written", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	if b, _ := os.ReadFile(file); strings.TrimSpace(string(b)) != want {
		t.Errorf("the access log has %s, want %s", b, want)
	}
}
