package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A testService says who it is, and echoes.
type testService struct {
	pb.UnimplementedTestServiceServer
	name  string
	calls atomic.Int64
	ended chan error // why the context of a call ended
}

func (s *testService) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	s.calls.Add(1)
	in, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-saw", strings.Join(in.Get("x-added"), ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-end", s.name, "x-raw-bin", "\x00\xff"))
	if st := r.GetResponseStatus(); st != nil {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	if r.GetResponseSize() < 0 { // waits until nobody does
		<-ctx.Done()
		s.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	return &pb.SimpleResponse{Username: s.name, Payload: r.GetPayload()}, nil
}

func (s *testService) StreamingOutputCall(r *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *testService) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	size := 0
	for {
		r, err := in.Recv()
		if err == io.EOF {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(r.GetPayload().GetBody())
	}
}

func (s *testService) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := both.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			s.ended <- both.Context().Err()
			return err
		}
		if err := both.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// serveGRPC serves a testService at an address until the test ends.
func serveGRPC(t *testing.T, address, name string) (*testService, *grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	service, server := &testService{name: name, ended: make(chan error, 10)}, grpc.NewServer()
	pb.RegisterTestServiceServer(server, service)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return service, server
}

func wantCode(t *testing.T, what string, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// The official client and server of gRPC call each other through GRPCRoutes: calls of every shape, their metadata, their
// ends and their errors.
func TestGRPCRoute(t *testing.T) {
	one, stopped := serveGRPC(t, "10.245.8.1:50051", "one")
	two, _ := serveGRPC(t, "10.245.8.2:50051", "two")
	ref := func(name, more string) string {
		return "{group: gateway.kgateway.dev, kind: Backend, name: " + name + more + "}"
	}
	static := func(name, host string) string {
		return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec: {type: Static, static: {appProtocol: grpc, hosts: [{host: %s, port: 50051}]}}\n---\n", name, host)
	}
	g := start(t, nil, static("one", "10.245.8.1")+static("down", "10.245.8.9")+testgateway.Service("two", 80, "", "10.245.8.2:50051")+`
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: default}]
  hostnames: [calls.test]
  rules:
  - matches: [{method: {service: grpc.testing.TestService, method: UnaryCall}, headers: [{name: x-split, value: "yes"}]}]
    backendRefs: [`+ref("one", ", weight: 3")+`, {name: two, port: 80, weight: 1}]
  - matches: [{method: {service: grpc.testing.TestService, method: UnaryCall}, headers: [{type: RegularExpression, name: x-version, value: "v?2"}]}]
    backendRefs: [{name: two, port: 80}]
  - matches: [{method: {service: grpc.testing.TestService, method: UnaryCall}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-added, value: by the gateway}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-gateway, value: mcpgw}]}}]
    backendRefs: [`+ref("one", "")+`]
  - matches: [{method: {type: RegularExpression, service: "grpc[.]testing[.]Test.*", method: "(Streaming.*|FullDuplex)Call"}}]
    backendRefs: [`+ref("one", "")+`]
  - matches: [{method: {method: EmptyCall}}]
    backendRefs: [`+ref("down", "")+`]
  - matches: [{method: {service: grpc.testing.UnimplementedService}}]
    backendRefs: [`+ref("nowhere", "")+`]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: rules}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  rbac: {policy: {matchExpressions: ["!('x-bad' in request.headers)"]}}
`)
	dial := func(authority string) pb.TestServiceClient {
		t.Helper()
		conn, err := grpc.NewClient("passthrough:///"+g.Address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return pb.NewTestServiceClient(conn)
	}
	client := dial("calls.test")
	with := func(pairs ...string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), pairs...) }

	var header, trailer metadata.MD
	got, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hi")}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetUsername() != "one" || string(got.GetPayload().GetBody()) != "hi" || fmt.Sprint(header["x-saw"], header["x-gateway"], trailer["x-end"]) != "[by the gateway] [mcpgw] [one]" || trailer["x-raw-bin"][0] != "\x00\xff" {
		t.Errorf("%v; %v; %v", got, header, trailer)
	}
	if got, err := client.UnaryCall(with("x-version", "v2"), new(pb.SimpleRequest)); err != nil || got.GetUsername() != "two" {
		t.Errorf("by a header: %v, %v", got, err)
	}
	_, err = client.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "100% é"}}, grpc.Trailer(&trailer))
	wantCode(t, "an error of the server", err, codes.FailedPrecondition)
	if status.Convert(err).Message() != "100% é" || fmt.Sprint(trailer["x-end"]) != "[one]" {
		t.Errorf("an error of the server: %v, %v", err, trailer)
	}

	before := [2]int64{one.calls.Load(), two.calls.Load()}
	for range 400 {
		if _, err := client.UnaryCall(with("x-split", "yes"), new(pb.SimpleRequest)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := one.calls.Load()-before[0], two.calls.Load()-before[1]; a+b != 400 || b < 50 || b > 150 {
		t.Errorf("weights 3 and 1: %d and %d", a, b)
	}

	out, err := client.StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}, {Size: 1 << 20}, {Size: 0}}})
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for {
		r, err := out.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(r.GetPayload().GetBody()))
	}
	if fmt.Sprint(sizes) != "[1 1048576 0]" {
		t.Errorf("a stream from the server has %v", sizes)
	}
	in, err := client.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 100_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 300_000 {
		t.Errorf("a stream to the server: %v, %v", r, err)
	}
	// Each message is answered before the next one is sent: nothing is held.
	both := func(ctx context.Context) grpc.BidiStreamingClient[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse] {
		t.Helper()
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte{byte(i)}}}); err != nil {
				t.Fatal(err)
			}
			if r, err := stream.Recv(); err != nil || r.GetPayload().GetBody()[0] != byte(i) {
				t.Fatalf("message %d of both ways: %v, %v", i, r, err)
			}
		}
		return stream
	}
	stream := both(t.Context())
	_ = stream.CloseSend()
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the end of both ways: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream = both(ctx)
	cancel()
	if err := <-one.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the server of a call that was given up: %v", err)
	}
	_, err = stream.Recv()
	wantCode(t, "a call that was given up", err, codes.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	_, err = client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: -1})
	cancel()
	wantCode(t, "a deadline", err, codes.DeadlineExceeded)
	if err := <-one.ended; err == nil {
		t.Error("the server of a call whose time is over does not know")
	}

	_, err = client.EmptyCall(t.Context(), new(pb.Empty))
	wantCode(t, "a backend that is down", err, codes.Unavailable)
	_, err = dial("other.test").EmptyCall(t.Context(), new(pb.Empty))
	wantCode(t, "another host", err, codes.Unimplemented)
	_, err = client.HalfDuplexCall(t.Context())
	if err == nil {
		half, _ := client.HalfDuplexCall(t.Context())
		_, err = half.Recv()
	}
	wantCode(t, "a method without a rule", err, codes.Unimplemented)
	_, err = client.UnaryCall(with("x-bad", "1"), new(pb.SimpleRequest))
	wantCode(t, "what a policy refuses", err, codes.PermissionDenied)
	if got := g.Ask(t, "POST", "/none/None", nil, "Host", "calls.test"); got.Status != 404 || got.Body != "route not found" {
		t.Errorf("a request that is not gRPC: %d %q", got.Status, got.Body)
	}
	stream = both(t.Context())
	stopped.Stop()
	_, err = stream.Recv()
	wantCode(t, "a server that ends", err, codes.Unavailable)
}
