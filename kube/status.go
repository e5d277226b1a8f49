package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

// An outcome is what became of a set of resources.
type outcome struct {
	*set
	report   *config.Report
	reaching map[config.ObjectRef][]types.NamespacedName // Gateways, by the BackendTLSPolicy that they use
	versions map[types.NamespacedName]string             // of Gateways, as data planes get them
	standing standing
	blocked  map[config.ObjectRef]string // why a Gateway does not have what it needs
}

// A status writes what became of resources into their status, while this replica holds the lease. What comes last
// counts; what was not written then never is.
type status struct {
	source  *Source
	watches *watches
	logger  *slog.Logger
	client  client.Client
	latest  atomic.Pointer[outcome]
	leads   atomic.Bool
	since   atomic.Pointer[time.Time]                                     // when it began to lead
	heard   atomic.Pointer[map[types.NamespacedName][]delivery.DataPlane] // what other replicas tell
	applied map[string]applied                                            // by run's goroutine
	wake    chan struct{}
	events  events.EventBroadcasterAdapter
	record  events.EventRecorderLogger
}

func newStatus(s *Source, w *watches) (*status, error) {
	st := &status{source: s, watches: w, logger: s.opts.Logger, wake: make(chan struct{}, 1), applied: map[string]applied{}}
	if s.opts.LeaseNamespace == "" {
		return st, nil
	}
	var err error
	if st.client, err = client.New(s.opts.Config, client.Options{HTTPClient: w.http, Scheme: w.scheme, Mapper: w.mapper}); err != nil {
		return nil, fmt.Errorf("preparing to write status: %w", err)
	}
	st.events = events.NewEventBroadcasterAdapterWithContext(context.Background(), w.clients)
	st.record = st.events.NewRecorder("mcpgw")
	return st, nil
}

// update has the status of what is in o written, if this replica does that.
func (s *status) update(o outcome) {
	s.latest.Store(&o)
	s.poke()
}

func (s *status) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// How long a replica that is gone keeps others from writing, and how often it says that it is not.
const (
	leaseTime = 15 * time.Second
	renewTime = 10 * time.Second
	retryTime = 2 * time.Second
)

// run writes until ctx ends.
func (s *status) run(ctx context.Context) {
	if s.client == nil {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.elect(ctx) })
	if s.source.opts.Proxies != nil {
		running.Go(func() { newReplicas(s).run(ctx) })
	}
	s.events.StartRecordingToSink(ctx.Done())
	defer s.events.Shutdown()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if o := s.latest.Load(); o != nil && s.leads.Load() {
			s.rotate(ctx, o)
			s.deploy(ctx, o)
			o.standing = s.standing()
			s.write(ctx, o)
		}
	}
}

// elect takes the lease whenever nobody holds it, until ctx ends.
func (s *status) elect(ctx context.Context) {
	name := "mcpgw-status-" + strings.NewReplacer("/", "-", ".", "-").Replace(strings.ToLower(s.source.opts.Controller))
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: s.source.opts.LeaseNamespace, Name: name},
		Client:     s.watches.clients.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: s.source.opts.Identity},
	}
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: name, LeaseDuration: leaseTime, RenewDeadline: renewTime, RetryPeriod: retryTime, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					s.logger.Info("this replica writes status")
					now := time.Now()
					s.since.Store(&now)
					s.leads.Store(true)
					s.source.opts.Metrics.leads(true)
					s.poke()
				},
				OnStoppedLeading: func() {
					s.leads.Store(false)
					s.source.opts.Metrics.leads(false)
				},
			},
		})
		if err != nil {
			s.logger.Error("status is not written", slog.Any("error", err))
			return
		}
		elector.Run(ctx) // until the lease is lost
	}
}

// A change is a status that differs from the one that the API server has.
type change struct {
	object *unstructured.Unstructured // by kind, name and version
	fields map[string]any
	events []transition
}

// A transition is a condition that became true or false.
type transition struct {
	condition metav1.Condition
}

const (
	// writers is how many objects are written at a time.
	writers = 8
	// writeWithin bounds one write.
	writeWithin = 10 * time.Second
)

// write writes what differs. What has changed meanwhile is written the next time, when that is known.
func (s *status) write(ctx context.Context, o *outcome) {
	var group errgroup.Group
	group.SetLimit(writers)
	var told sync.Once
	for _, c := range o.changes(&s.source.opts) {
		group.Go(func() error {
			body, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"resourceVersion": c.object.GetResourceVersion(), "uid": c.object.GetUID()},
				"status":   c.fields,
			})
			if err == nil {
				ctx, cancel := context.WithTimeout(ctx, writeWithin)
				defer cancel()
				err = s.client.Status().Patch(ctx, c.object.DeepCopy(), client.RawPatch(types.MergePatchType, body))
			}
			switch {
			case apierrors.IsConflict(err), apierrors.IsNotFound(err), ctx.Err() != nil, err != nil && s.watches.ask(ctx) != nil:
				s.source.opts.Metrics.wrote(c.object.GetKind(), "stale")
				return nil // there is a newer version, which will come, or none, or no API server
			case err != nil:
				s.source.opts.Metrics.wrote(c.object.GetKind(), "error")
				told.Do(func() {
					s.logger.Warn("writing status", slog.String("object", c.object.GetKind()+" "+c.object.GetNamespace()+"/"+c.object.GetName()), slog.Any("error", err))
				})
				return nil
			}
			s.source.opts.Metrics.wrote(c.object.GetKind(), "success")
			for _, t := range c.events {
				kind := corev1.EventTypeNormal
				if t.condition.Status == metav1.ConditionFalse {
					kind = corev1.EventTypeWarning
				}
				s.record.Eventf(c.object, nil, kind, t.condition.Reason, t.condition.Type, "%s", clip(t.condition.Message, 1000))
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error: each was told
}

// clip returns at most n bytes of s, whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "…"
}
