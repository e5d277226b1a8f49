package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/secret"
)

const (
	// pingAfter and pingTimeout say when a connection on which nothing comes is taken for dead.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
	// retryFirst and retryMost bound the pauses between attempts to reach the controller, which grow. Half of a pause
	// is random, so that data planes do not come back all at once.
	retryFirst = 200 * time.Millisecond
	retryMost  = 15 * time.Second
	// lookAgain is how often a problem that the controller was told of is looked at again.
	lookAgain = 2 * time.Second
	// maxToken bounds the file of a token, in bytes.
	maxToken = 64 << 10
)

// SourceOptions configure a [Source].
type SourceOptions struct {
	// Address is host:port of the controller. Its certificate is for that host.
	Address string
	// CAFile holds the authorities that vouch for the controller; "" are those of the system. It and TokenFile, which
	// holds the token that the controller knows this data plane by, are read for each connection.
	CAFile, TokenFile string
	// CacheFile keeps what was taken last, secrets included, for a start without the controller; "" keeps it in memory
	// alone.
	CacheFile string
	// Node tells this data plane from others, for the controller.
	Node string
	// Tells reports whether the controller is told of a problem: of those that it can't find itself. Nil tells of none.
	Tells func(config.Problem) bool
	// Logger gets what operators should know.
	Logger *slog.Logger

	// SetSessionKeys is told the session keys before the resources that come with them, when they are
	// others than before. May be nil.
	SetSessionKeys func(keys [][]byte) error
	// OnReport is told what became of each set of resources. May be nil.
	OnReport func(*config.Report)
}

// A Source takes resources from a controller. It implements [config.Source].
type Source struct {
	opts    SourceOptions
	decoder *decoder
	held    Set       // what was taken last
	keys    string    // the version of the session keys in use
	found   []Finding // what the controller is told of
}

// NewSource returns a source. Nothing is asked before Run.
func NewSource(opts SourceOptions) (*Source, error) {
	if opts.Address == "" || opts.TokenFile == "" || opts.Logger == nil {
		return nil, errors.New("delivery: Address, TokenFile and Logger are needed")
	}
	return &Source{opts: opts, decoder: newDecoder()}, nil
}

// Run implements [config.Source]. While the controller can't be reached, what was taken last stays, and it is asked
// again until ctx ends.
func (s *Source) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	if s.opts.CacheFile != "" {
		s.fromCache(apply)
	}
	pause, told := retryFirst, ""
	for {
		taken, err := s.follow(ctx, apply)
		message := fmt.Sprint(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case taken: // connections end now and then, and are made anew
			pause, told = retryFirst, ""
			s.opts.Logger.Debug("the connection to the controller ended", slog.Any("error", err))
		case message != told:
			told = message
			s.opts.Logger.Warn("the controller can't be followed, what is known stays in use", slog.String("controller", s.opts.Address), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, retryMost)
	}
}

// follow takes what the controller hands out, over one connection, until that ends. taken says that something came.
func (s *Source) follow(ctx context.Context, apply func(*config.Resources) *config.Report) (taken bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	secure := &tls.Config{MinVersion: tls.VersionTLS13}
	if s.opts.CAFile != "" {
		authorities, err := os.ReadFile(s.opts.CAFile)
		if err != nil {
			return false, fmt.Errorf("reading who vouches for the controller: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(authorities) {
			return false, fmt.Errorf("%s holds no certificate in PEM", s.opts.CAFile)
		}
	}
	token, err := readToken(s.opts.TokenFile)
	if err != nil {
		return false, err
	}
	conn, err := grpc.NewClient("dns:///"+s.opts.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token.Reveal())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	s.look(apply)
	err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: nodeOf(s.opts.Node, s.found), TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: s.held.versions(),
	})
	if err != nil && !errors.Is(err, io.EOF) { // of which Recv says the reason
		return false, err
	}
	responses, failed := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go func() { // until the stream ends, which it does when this method returns
		for {
			response, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- response:
			case <-ctx.Done():
				return
			}
		}
	}()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}
		select {
		case err := <-failed:
			return taken, err
		case <-again.C:
			if !s.look(apply) {
				continue
			}
		case response := <-responses:
			taken = true
			answer.ResponseNonce = response.GetNonce()
			if problem := s.take(response, apply); problem != nil {
				s.opts.Logger.Error("what the controller sent is not used, what was known stays in use", slog.Any("error", problem))
				answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: problem.Error()}
			}
		}
		answer.Node = nodeOf(s.opts.Node, s.found)
		if err := stream.Send(answer); err != nil && !errors.Is(err, io.EOF) {
			return taken, err
		}
	}
}

// look looks again at what the controller was told of, which may be otherwise by now. It reports whether it is.
func (s *Source) look(apply func(*config.Resources) *config.Report) (other bool) {
	if len(s.found) == 0 {
		return false
	}
	before := s.found
	if err := s.use(s.held, apply); err != nil {
		s.opts.Logger.Error("what is known can't be applied again", slog.Any("error", err))
		return false
	}
	return !slices.Equal(before, s.found)
}

// take makes the change that a response is, and applies what results.
func (s *Source) take(r *discoveryv3.DeltaDiscoveryResponse, apply func(*config.Resources) *config.Report) error {
	next := maps.Clone(s.held)
	if next == nil {
		next = Set{}
	}
	for _, name := range r.GetRemovedResources() {
		delete(next, name)
	}
	for _, o := range r.GetResources() {
		next[o.GetName()] = Object{Version: o.GetVersion(), JSON: o.GetResource().GetValue()}
	}
	if s.held != nil && len(r.GetResources())+len(r.GetRemovedResources()) == 0 {
		return nil
	}
	if err := s.use(next, apply); err != nil {
		return err
	}
	if s.opts.CacheFile != "" {
		if err := next.write(s.opts.CacheFile); err != nil {
			s.opts.Logger.Error("what the controller sent is not kept", slog.Any("error", err))
		}
	}
	return nil
}

// use applies a set.
func (s *Source) use(set Set, apply func(*config.Resources) *config.Report) error {
	d, err := s.decoder.decode(set)
	if err != nil {
		return err
	}
	if keys := set[sessionKeys].Version; s.opts.SetSessionKeys != nil && len(d.keys) > 0 && keys != s.keys {
		if err := s.opts.SetSessionKeys(d.keys); err != nil {
			return fmt.Errorf("using the session keys: %w", err)
		}
		s.keys = keys
		s.opts.Logger.Info("session keys came from the controller", slog.Int("keys", len(d.keys)))
	}
	report := &config.Report{}
	report.Merge(apply(d.resources))
	report.Problems = append(report.Problems, d.problems...)
	report.Sort()
	s.held, s.found = set, nil
	for _, p := range report.Problems {
		if s.opts.Tells != nil && s.opts.Tells(p) && len(s.found) < maxProblems {
			s.found = append(s.found, Finding{Object: p.Object, Path: p.Path, Code: p.Code, Reason: p.Reason, Message: p.Message, Help: p.Help})
		}
	}
	if s.opts.OnReport != nil {
		s.opts.OnReport(report)
	}
	return nil
}

// readToken reads the file of a token.
func readToken(path string) (secret.Value, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxToken {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxToken)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return secret.Value{}, fmt.Errorf("%s holds no token", path)
	}
	return secret.New(token), nil
}
