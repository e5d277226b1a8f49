package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/apimachinery/pkg/types"
)

// typeURL names the one type of resource. It is no protobuf message: its value is JSON.
const typeURL = "type.mcpgw.dev/object+json"

const (
	// maxMessage bounds a message, in bytes: a first response holds all that a data plane needs.
	maxMessage = 64 << 20
	// maxStreams bounds the streams of one connection; a data plane has one.
	maxStreams = 16
	// maxObjects bounds what a data plane may say that it has.
	maxObjects = 100_000
	// sayWithin is how long a data plane has for its first request, and to prove who it is.
	sayWithin = 10 * time.Second
	// answerWithin is how long a data plane has to take or refuse a response.
	answerWithin = time.Minute
	// connectionAge is when a data plane is asked to connect anew, with a token that is checked again and to any
	// replica of the controller. gRPC spreads it.
	connectionAge = 30 * time.Minute
	// connectionGrace is how long an old connection is good for another response.
	connectionGrace = 10 * time.Second
)

// ErrStranger is wrapped by the errors of an Authenticate that say that a token is not good, rather than that it could
// not be checked.
var ErrStranger = errors.New("the token is not accepted")

// ServerOptions configure a [Server].
type ServerOptions struct {
	// Authenticate returns the ServiceAccount that a token proves, or an error, which wraps
	// [ErrStranger] when it proves none.
	Authenticate func(ctx context.Context, token string) (types.NamespacedName, error)
	// Logger gets what operators should know.
	Logger *slog.Logger
	// OnDataPlanes is told when DataPlanes may return something else than before, also by way of time. It must not block. May be nil.
	OnDataPlanes func()
	// Metrics count what is handed out; nil counts nothing.
	Metrics *Metrics
}

// A Server hands data planes what they need. It is safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts ServerOptions

	mu      sync.Mutex
	sets    map[types.NamespacedName]published // nil before anything was published
	changed chan struct{}                      // closed when sets are others

	connected map[types.NamespacedName]map[*follower]DataPlane
	left      map[types.NamespacedName]map[string]departed // by node

	forgetting sync.WaitGroup
	ended      chan struct{} // closed when Serve has ended
}

// NewServer returns a server that has nothing to hand out: data planes wait for the first Publish.
func NewServer(opts ServerOptions) *Server {
	return &Server{
		opts: opts, changed: make(chan struct{}), ended: make(chan struct{}),
		connected: map[types.NamespacedName]map[*follower]DataPlane{}, left: map[types.NamespacedName]map[string]departed{},
	}
}

// Publish has data planes get what differs. sets has what each needs, by the ServiceAccount that it runs as; data planes
// of others are sent away. The sets are not changed from then on.
func (s *Server) Publish(sets map[types.NamespacedName]Set) {
	next := make(map[types.NamespacedName]published, len(sets))
	for account, set := range sets {
		next[account] = published{set, set.version()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sets != nil && maps.EqualFunc(s.sets, next, func(a, b published) bool { return a.version == b.version }) {
		return
	}
	s.opts.Metrics.publish()
	s.sets = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// A published is what the data planes of a ServiceAccount get.
type published struct {
	set     Set
	version string
}

// Serve takes data planes at l until ctx ends. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener, secure *tls.Config) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(secure)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(sayWithin),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace, Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingAfter / 2, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	defer s.forgetting.Wait()
	defer close(s.ended)
	if err := server.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serving data planes: %w", err)
	}
	return nil
}

// DeltaAggregatedResources implements the protocol for one data plane.
func (s *Server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	account, err := s.authenticate(stream.Context())
	if err != nil {
		return err
	}
	requests, failed := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan error, 1)
	go func() { // until the stream ends, which it does when this method returns
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- r:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	f := &follower{account: account, stream: stream, logger: s.opts.Logger.With(slog.String("dataPlane", account.String())), metrics: s.opts.Metrics}
	defer s.leaves(f)
	timer := time.NewTimer(sayWithin)
	defer timer.Stop()
	for {
		set, changed, ok := s.current(account)
		if f.known != nil && f.nonce == "" {
			if !ok {
				return status.Errorf(codes.NotFound, "no Gateway is served by ServiceAccount %s", account)
			}
			if err := f.send(set); err != nil {
				if status.Code(err) == codes.ResourceExhausted {
					f.logger.Error("what a data plane needs is more than a message can hold", slog.Int("bytes", maxMessage))
				}
				return err
			}
			if f.nonce != "" {
				timer.Reset(answerWithin)
			} else {
				s.stands(f)
			}
		}
		var late <-chan time.Time
		if f.known == nil || f.nonce != "" {
			late = timer.C
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case err := <-failed:
			return err
		case <-late:
			if f.nonce != "" {
				f.metrics.answer("silent", 0)
				f.logger.Error("a data plane is silent, it has to connect anew", slog.String("node", f.node), slog.Duration("after", answerWithin))
			}
			return status.Error(codes.DeadlineExceeded, "the data plane is silent")
		case <-changed:
		case r := <-requests:
			if err := f.take(r); err != nil {
				return err
			}
			s.stands(f)
		}
	}
}

// current returns what an account is handed, with no set before anything was published, and what tells of a change; ok is false
// when there is nothing for it.
func (s *Server) current(account types.NamespacedName) (p published, changed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok = s.sets[account]
	return p, s.changed, ok || s.sets == nil
}

// authenticate returns who asks.
func (s *Server) authenticate(ctx context.Context) (types.NamespacedName, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return types.NamespacedName{}, status.Error(codes.Unauthenticated, "a bearer token is needed")
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" {
		return types.NamespacedName{}, status.Error(codes.Unauthenticated, "a bearer token is needed")
	}
	ctx, cancel := context.WithTimeout(ctx, sayWithin)
	defer cancel()
	account, err := s.opts.Authenticate(ctx, token)
	switch {
	case errors.Is(err, ErrStranger):
		s.opts.Metrics.token("refused")
		s.opts.Logger.Warn("a data plane is refused", slog.Any("error", err))
		return types.NamespacedName{}, status.Error(codes.Unauthenticated, err.Error())
	case err != nil:
		s.opts.Metrics.token("unverifiable")
		s.opts.Logger.Error("the token of a data plane can't be checked", slog.Any("error", err))
		return types.NamespacedName{}, status.Error(codes.Unavailable, "the token can't be checked just now")
	}
	s.opts.Metrics.token("accepted")
	return account, nil
}

// A follower is a data plane on its stream. It belongs to one goroutine.
type follower struct {
	account types.NamespacedName
	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	logger  *slog.Logger
	metrics *Metrics

	node     string
	findings []Finding // problems that it tells of
	refuses  string    // why it did not take what it was sent last

	known   map[string]string // what it has; nil before it said so
	sent    map[string]string // what it has once it takes what was sent
	nonce   string            // of what was sent and is not answered; "" when there is nothing
	refused string            // the version of the set that it did not take
	told    bool              // it was sent something
	at      time.Time         // when
	count   int
}

// take takes a request: the first, the answer to a response, or one that says only how the data plane stands.
func (f *follower) take(r *discoveryv3.DeltaDiscoveryRequest) error {
	if r.GetNode() != nil {
		f.node, f.findings = clip(r.GetNode().GetId()), findingsOf(r.GetNode())
	}
	switch {
	case f.known == nil:
		if r.GetTypeUrl() != typeURL {
			return status.Errorf(codes.InvalidArgument, "there is nothing of type %q: the versions of controller and data plane do not fit", r.GetTypeUrl())
		}
		if len(r.GetInitialResourceVersions()) > maxObjects {
			return status.Errorf(codes.ResourceExhausted, "the data plane has more than %d objects", maxObjects)
		}
		f.known = maps.Clone(r.GetInitialResourceVersions())
		if f.known == nil {
			f.known = map[string]string{}
		}
		f.logger.Info("a data plane is connected", slog.String("node", f.node))
	case r.GetResponseNonce() == "": // it was taken above
	case f.nonce == "" || r.GetResponseNonce() != f.nonce:
		return status.Error(codes.InvalidArgument, "that answers nothing")
	case r.GetErrorDetail() != nil:
		f.refuses = clip(cmp.Or(r.GetErrorDetail().GetMessage(), "it does not say why"))
		f.metrics.answer("nacked", 0)
		f.logger.Error("a data plane refuses what it is sent, and goes on with what it has", slog.String("node", f.node), slog.String("problem", f.refuses))
		f.nonce, f.sent = "", nil
	default:
		f.metrics.answer("acked", time.Since(f.at))
		f.known, f.refused, f.refuses = f.sent, "", ""
		f.nonce, f.sent = "", nil
	}
	return nil
}

// send sends what differs, if anything does. The first response is sent either way: it says that nothing
// does. What was refused is not sent again.
func (f *follower) send(p published) error {
	set := p.set
	if set == nil || f.refused == p.version {
		return nil // nothing is known yet, or nothing better
	}
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, SystemVersionInfo: p.version}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if o := set[name]; f.known[name] != o.Version {
			response.Resources = append(response.Resources, &discoveryv3.Resource{Name: name, Version: o.Version, Resource: &anypb.Any{TypeUrl: typeURL, Value: o.JSON}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.known)) {
		if _, ok := set[name]; !ok {
			response.RemovedResources = append(response.RemovedResources, name)
		}
	}
	if f.told && len(response.Resources)+len(response.RemovedResources) == 0 {
		f.refused, f.refuses = "", "" // it has it already
		return nil
	}
	f.count++
	f.told, f.at, f.refused = true, time.Now(), p.version // until it is taken
	f.nonce, f.sent = strconv.Itoa(f.count), set.versions()
	response.Nonce = f.nonce
	return f.stream.Send(response)
}
