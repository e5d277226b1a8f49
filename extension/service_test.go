package extension

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/upstream"
)

// A peer is a gRPC server made by grpc-go.
type peer struct {
	authv3.UnimplementedAuthorizationServer
	extprocv3.UnimplementedExternalProcessorServer

	check   func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error)
	process func(extprocv3.ExternalProcessor_ProcessServer) error
}

func (p *peer) Check(ctx context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return p.check(ctx, q)
}

func (p *peer) Process(s extprocv3.ExternalProcessor_ProcessServer) error { return p.process(s) }

// serve serves p for the test, and returns a Service of it.
func (p *peer) serve(t *testing.T) *Service {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, p)
	extprocv3.RegisterExternalProcessorServer(s, p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends by Stop
	}()
	pool := upstream.NewPool(upstream.Options{Protocol: upstream.H2C}, l.Addr().String())
	t.Cleanup(func() {
		pool.Close()
		s.Stop()
		<-done
		goleak.VerifyNone(t, ignore)
	})
	return &Service{RoundTripper: pool, Authority: "auth.test:9000", Timeout: 30 * time.Second}
}

func check(s *Service) func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return Unary[authv3.CheckRequest, authv3.CheckResponse](s, authv3.Authorization_Check_FullMethodName)
}

func TestUnary(t *testing.T) {
	var authority string
	p := &peer{check: func(ctx context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		authority = strings.Join(md.Get(":authority"), ",")
		return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{HeadersToRemove: []string{q.GetAttributes().GetRequest().GetHttp().GetPath()}}}}, nil
	}}
	call := check(p.serve(t))
	for _, path := range []string{"/a", "/b"} {
		a, err := call(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Path: path}}}})
		if err != nil || a.GetOkResponse().GetHeadersToRemove()[0] != path {
			t.Fatalf("%s: answer %v, error %v", path, a, err)
		}
	}
	if authority != "auth.test:9000" {
		t.Errorf("the service saw :authority %q", authority)
	}
}

func TestUnaryRetry(t *testing.T) {
	cases := []struct {
		name     string
		code     codes.Code
		attempts int
		asked    int64
		want     connect.Code // 0: an answer
	}{
		{"available again", codes.Unavailable, 2, 3, 0},
		{"never available", codes.Unavailable, 1, 2, connect.CodeUnavailable},
		{"no retry", codes.Unavailable, 0, 1, connect.CodeUnavailable},
		{"its own mistake", codes.Internal, 5, 1, connect.CodeInternal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			p := &peer{check: func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
				if asked.Add(1) <= 2 {
					return nil, status.Error(c.code, "not now")
				}
				return &authv3.CheckResponse{}, nil
			}}
			s := p.serve(t)
			s.Retry = Retry{Attempts: c.attempts, Base: time.Millisecond}
			_, err := check(s)(t.Context(), &authv3.CheckRequest{})
			if (err == nil) != (c.want == 0) || err != nil && connect.CodeOf(err) != c.want {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if n := asked.Load(); n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
		})
	}
}

func TestUnaryTimeout(t *testing.T) {
	p := &peer{check: func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	s := p.serve(t)
	s.Timeout = 50 * time.Millisecond
	if _, err := check(s)(t.Context(), &authv3.CheckRequest{}); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("error %v, want deadline_exceeded", err)
	}
}

func TestUnaryNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s := &Service{RoundTripper: upstream.NewPool(upstream.Options{Protocol: upstream.H2C}, address), Timeout: 30 * time.Second}
	_, err = check(s)(t.Context(), &authv3.CheckRequest{})
	var f *fault.Fault
	if connect.CodeOf(err) != connect.CodeUnavailable || !errors.As(err, &f) || f.Code != fault.UpstreamUnreachable {
		t.Errorf("error %v, want one that says unavailable and why", err)
	}
}

func TestMessageLimits(t *testing.T) {
	p := &peer{check: func(_ context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Body: strings.Repeat("x", maxMessage)}}}, nil
	}}
	call := check(p.serve(t))
	if _, err := call(t.Context(), &authv3.CheckRequest{}); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("an answer over the limit: error %v, want resource_exhausted", err)
	}
}

func TestRetryWait(t *testing.T) {
	r := Retry{Base: 20 * time.Millisecond}
	for n, most := range []time.Duration{20, 40, 80, 160, 200, 200} {
		most *= time.Millisecond
		if w := r.wait(n); w < most/2 || w > most {
			t.Errorf("wait %d is %s, want %s to %s", n, w, most/2, most)
		}
	}
	if w := (&Retry{}).wait(3); w != 0 {
		t.Errorf("without a base the wait is %s", w)
	}
}

func TestBidi(t *testing.T) {
	p := &peer{process: func(s extprocv3.ExternalProcessor_ProcessServer) error {
		for {
			q, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: q.GetRequestBody().GetBody()}}}}}}); err != nil {
				return err
			}
		}
	}}
	open := Bidi[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse](p.serve(t), extprocv3.ExternalProcessor_Process_FullMethodName)
	t.Run("to the end", func(t *testing.T) {
		s := open(t.Context())
		for _, part := range []string{"one", "two", "three"} {
			if err := s.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(part)}}}); err != nil {
				t.Fatal(err)
			}
			a, err := s.Receive()
			if err != nil || string(a.GetRequestBody().GetResponse().GetBodyMutation().GetBody()) != part {
				t.Fatalf("%s: answer %v, error %v", part, a, err)
			}
		}
		if err := s.CloseRequest(); err != nil {
			t.Error(err)
		}
		if _, err := s.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		if err := s.CloseResponse(); err != nil {
			t.Error(err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := open(ctx)
		if err := s.Send(&extprocv3.ProcessingRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := s.Receive(); connect.CodeOf(err) != connect.CodeCanceled {
			t.Errorf("error %v, want canceled", err)
		}
		_ = s.CloseRequest()
		_ = s.CloseResponse() // the context has ended them
	})
}
