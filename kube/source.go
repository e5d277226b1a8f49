package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mcpgw/mcpgw/config"
)

// Options configure a [Source].
type Options struct {
	// Config says how to reach the API server.
	Config *rest.Config
	// Controller is the controllerName of the GatewayClasses that are served.
	Controller string
	// Namespaces are those that are watched; none is all. GatewayClasses, which have no namespace, are watched
	// either way.
	Namespaces []string
	// Addresses are where clients reach the Gateways, IP addresses or host names, for their status. Where
	// there are none, those of Service are, given as namespace/name.
	Addresses []string
	Service   string
	// LeaseNamespace is where replicas agree on which of them writes status; "" writes none.
	LeaseNamespace string
	// Identity tells this replica from others.
	Identity string

	// Experimental has fields be served that are in the experimental channel of the Gateway API only.
	Experimental bool
	// Proxies, when set, has each Gateway be served by data planes, and not by this process.
	Proxies *Proxies

	// Logger gets what operators should know.
	Logger *slog.Logger
	// Metrics count what is done; nil counts nothing.
	Metrics *Metrics
	// OnReport is told what became of each set of resources that differs from the one before. May be
	// nil.
	OnReport func(*config.Report)
}

// A Source watches an API server. It implements [config.Source].
type Source struct {
	opts Options
	// dirty holds a value when something may have changed.
	dirty chan struct{}
	said  string // by complain; Run's goroutine alone has it
}

// NewSource returns a source. Nothing is asked before Run.
func NewSource(opts Options) (*Source, error) {
	switch {
	case opts.Config == nil, opts.Logger == nil, opts.Controller == "":
		return nil, errors.New("kube: Config, Logger and Controller are needed")
	case opts.LeaseNamespace != "" && opts.Identity == "":
		return nil, errors.New("kube: a replica that may write status needs an Identity")
	}
	// Both are the process's, and so is where its log goes.
	klog.SetSlogLogger(slog.New(chatter{opts.Logger.Handler()}))
	ctrllog.SetLogger(logr.FromSlogHandler(chatter{opts.Logger.Handler()}))
	return &Source{opts: opts, dirty: make(chan struct{}, 1)}, nil
}

// Look has everything be looked at again: something that is not in the API server may have changed. It does not block, and is safe for
// concurrent use.
func (s *Source) Look() { s.changed() }

// changed notes that something may have changed.
func (s *Source) changed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

const (
	// settle is how long nothing must have changed before resources are delivered, settleMost how long
	// they wait at most for that.
	settle, settleMost = 20 * time.Millisecond, 200 * time.Millisecond
	// again is how often kinds are looked for that the API server did not have, and the port of a
	// Gateway that could not be opened is asked for.
	again = 5 * time.Second
)

// Run implements [config.Source]. It waits for the API server as long as it takes, and delivers nothing before all
// is known that there is.
func (s *Source) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	w, err := newWatches(s)
	if err != nil {
		return err
	}
	status, err := newStatus(s, w)
	if err != nil {
		return err
	}
	running.Go(func() { w.run(ctx) })
	running.Go(func() { w.watchReach(ctx) })
	running.Go(func() { status.run(ctx) })
	defer w.references.close()
	if !w.begin(ctx) {
		return nil
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	s.changed()
	last, out := "", new(deliverer)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.lookForMissing(ctx)
			s.changed()
			continue
		case <-s.dirty:
		}
		if !s.settle(ctx) || !w.synced(ctx) {
			return nil
		}
		begin := time.Now()
		set, err := w.assemble(ctx)
		if err != nil {
			return fmt.Errorf("reading the cache: %w", err)
		}
		report, changed, building := &config.Report{}, last != set.resources.Fingerprint, time.Now()
		report.Merge(apply(set.resources))
		if changed {
			s.opts.Metrics.built(building)
		}
		report.Problems = append(report.Problems, set.problems...)
		if s.opts.Proxies != nil {
			if err := set.plan(s.opts.Controller, s.opts.Proxies, report); err != nil {
				return err
			}
		}
		report.Sort()
		if s.opts.OnReport != nil && changed {
			s.opts.OnReport(report)
		}
		last = set.resources.Fingerprint
		sharing := time.Now()
		gateways := set.served(s.opts.Controller)
		if s.opts.Proxies != nil || len(set.resources.BackendTLS) > 0 {
			if err := out.share(set, report, gateways); err != nil {
				return err
			}
		}
		if s.opts.Proxies != nil {
			ready, err := s.prepare(ctx, w, set)
			if err == nil && ready {
				err = s.deliver(set, gateways, out, sharing)
			}
			if err != nil {
				return err
			}
		}
		s.opts.Metrics.reconciled(begin, changed, set)
		status.update(outcome{set: set, report: report, reaching: reaching(set.resources.BackendTLS, out.shares), versions: versionsOf(gateways, out.shares)})
	}
}

// settle waits until nothing has changed for a moment.
func (s *Source) settle(ctx context.Context) bool {
	most := time.NewTimer(settleMost)
	defer most.Stop()
	for {
		quiet := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			quiet.Stop()
			return false
		case <-s.dirty:
			quiet.Stop()
		case <-quiet.C:
			return true
		case <-most.C:
			quiet.Stop()
			return true
		}
	}
}
