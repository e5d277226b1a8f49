package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A HealthCheck asks endpoints whether they work. An endpoint is used until it has failed
// Unhealthy times in a row, and again when it has answered Healthy times in a row.
type HealthCheck struct {
	// Interval is the time between two checks, Timeout that of one.
	Interval, Timeout  time.Duration
	Unhealthy, Healthy int
	// Method, Path and Host are of the HTTP request that asks, which is well answered
	// by 200. An empty Host is the endpoint's.
	Method, Path, Host string
	// GRPC, when set, asks by grpc.health.v1.Health instead.
	GRPC *GRPCCheck
}

// A GRPCCheck asks by grpc.health.v1.Health, which is well answered by SERVING.
type GRPCCheck struct {
	Service   string // "" is the server as a whole
	Authority string // "" is the endpoint's
}

// maxChecks bounds the checks of one pool that run at once.
const maxChecks = 64

// Checked reports whether the pool has a [HealthCheck], for which [Pool.Run] has to run.
func (p *Pool) Checked() bool { return p.check != nil }

// Run resolves names and checks the endpoints until ctx ends. It need not run for a pool that neither [Pool.Resolves] nor
// is [Pool.Checked].
func (p *Pool) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if !p.dynamic {
		running.Go(func() { p.runResolver(ctx) })
	}
	if p.check != nil {
		running.Go(func() { p.runChecks(ctx) })
	}
}

// runChecks checks the endpoints until ctx ends.
func (p *Pool) runChecks(ctx context.Context) {
	c := checker{HealthCheck: *p.check, scheme: p.scheme, transport: p.transport, services: map[string]*grpc.ClientConn{}}
	defer c.close()
	ticker := time.NewTicker(c.Interval)
	defer ticker.Stop()
	for {
		p.checkAll(ctx, &c)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// checkAll asks all endpoints, and waits for their answers.
func (p *Pool) checkAll(ctx context.Context, c *checker) {
	all := p.Endpoints()
	c.keep(all)
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxChecks)
	for _, e := range all {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			err := c.ask(ctx, e.address, e.Host())
			if ctx.Err() == nil {
				p.checked(e, c, err)
			}
		})
	}
	wait.Wait()
}

// checked notes what came out of a check.
func (p *Pool) checked(e *Endpoint, c *checker, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if (err != nil) == e.unhealthy {
		e.checks = 0
		return
	}
	e.checks++
	needed := c.Unhealthy
	if e.unhealthy {
		needed = c.Healthy
	}
	if e.checks < needed {
		return
	}
	e.checks, e.unhealthy = 0, !e.unhealthy
	if e.unhealthy {
		p.log.Warn("upstream endpoint is unhealthy", "endpoint", e.address, "reason", err)
	} else {
		p.log.Info("upstream endpoint is healthy again", "endpoint", e.address)
	}
	p.merge()
}

// A checker makes the checks of a pool.
type checker struct {
	HealthCheck
	scheme    string
	transport *http.Transport

	mu       sync.Mutex
	services map[string]*grpc.ClientConn // by address
}

// ask returns nil when the endpoint of a host answers well.
func (c *checker) ask(ctx context.Context, address, named string) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.GRPC != nil {
		return c.askGRPC(ctx, address, named)
	}
	host := c.Host
	if host == "" {
		host = named
	}
	u, err := url.Parse(c.scheme + "://" + address + c.Path)
	if err != nil {
		return err
	}
	r := (&http.Request{Method: c.Method, URL: u, Host: host, Header: http.Header{"User-Agent": {"mcpgw health check"}}}).WithContext(ctx)
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status says it all
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %s", c.Method, c.Path, resp.Status)
	}
	return nil
}

func (c *checker) askGRPC(ctx context.Context, address, named string) error {
	conn, err := c.conn(address, named)
	if err != nil {
		return err
	}
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: c.GRPC.Service})
	if err != nil {
		return err
	}
	if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return errors.New("the health service answered " + resp.GetStatus().String())
	}
	return nil
}

// conn returns the connection for checks of an endpoint.
func (c *checker) conn(address, named string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.services[address]; conn != nil {
		return conn, nil
	}
	creds, authority := insecure.NewCredentials(), c.GRPC.Authority
	if authority == "" && named != address && (c.transport.TLSClientConfig == nil || c.transport.TLSClientConfig.ServerName == "") {
		authority = named
	}
	if c.scheme == "https" {
		cfg := c.transport.TLSClientConfig
		if cfg == nil {
			cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		creds = credentials.NewTLS(cfg.Clone())
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.transport.DialContext(ctx, "tcp", address)
		}),
	}
	if authority != "" {
		opts = append(opts, grpc.WithAuthority(authority))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err == nil {
		c.services[address] = conn
	}
	return conn, err
}

// keep closes the connections to endpoints that are gone.
func (c *checker) keep(all []*Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, conn := range c.services {
		if find(all, address) == nil {
			_ = conn.Close() // nothing waits on it
			delete(c.services, address)
		}
	}
}

func (c *checker) close() { c.keep(nil) }
