package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/mcpgw/mcpgw/delivery"
)

const (
	// tellEvery is how often a replica looks whether there is something to tell others, or to be told; renewEvery how often it says
	// that what it told still holds, and staleAfter how long that is believed.
	tellEvery  = 2 * time.Second
	renewEvery = 10 * time.Second
	staleAfter = 40 * time.Second
	// maxTold bounds what a replica tells, in bytes: a ConfigMap holds 1 MiB.
	maxTold = 900 << 10
	// toldLabel marks the ConfigMaps by which replicas of a controller tell of their data planes, toldKey is what holds them.
	toldLabel = "mcpgw.dev/data-planes-of"
	toldKey   = "data-planes.json"
	// renewedAnnotation makes each renewal another version.
	renewedAnnotation = "mcpgw.dev/renewed"
)

// A hearsay is what another replica told.
type hearsay struct {
	version string
	at      time.Time // when that version was seen first, by this replica's clock
	planes  map[types.NamespacedName][]delivery.DataPlane
}

// replicas keep what replicas of a controller tell each other: data planes connect to any, and one writes status. The one that
// leads hears, the others tell. What all of them say is in standing.
type replicas struct {
	status *status
	name   string // of this replica's ConfigMap

	written time.Time // when this replica told something; zero when nothing of it is there
	told    map[types.NamespacedName][]delivery.DataPlane
	heard   map[string]hearsay // by ConfigMap
}

func newReplicas(s *status) *replicas {
	return &replicas{status: s, name: "mcpgw-data-planes-" + short(s.source.opts.Identity), heard: map[string]hearsay{}}
}

// short returns a text as a part of a name.
func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// run tells or hears until ctx ends.
func (r *replicas) run(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	said := ""
	for {
		var err error
		if r.status.leads.Load() {
			err = r.hear(ctx)
		} else {
			err = r.tell(ctx)
		}
		message := fmt.Sprint(err)
		if err != nil && ctx.Err() == nil && message != said && !r.status.watches.gone.Load() {
			r.status.logger.Warn("replicas don't know of each other's data planes", slog.Any("error", err))
		}
		said = message
		select {
		case <-ctx.Done():
			r.withdraw(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// tell writes which data planes are connected to this replica, where that is something else than before or was said long ago.
func (r *replicas) tell(ctx context.Context) error {
	clear(r.heard)
	r.status.heard.Store(nil)
	planes := r.status.source.opts.Proxies.DataPlanes()
	if len(planes) == 0 {
		return r.withdraw(ctx)
	}
	if reflect.DeepEqual(planes, r.told) && time.Since(r.written) < renewEvery {
		return nil
	}
	text, err := writeTold(planes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	namespace := r.status.source.opts.Proxies.Namespace
	_, err = r.status.watches.clients.CoreV1().ConfigMaps(namespace).Apply(ctx, corev1apply.ConfigMap(r.name, namespace).
		WithLabels(map[string]string{toldLabel: short(r.status.source.opts.Controller)}).
		WithAnnotations(map[string]string{renewedAnnotation: time.Now().UTC().Format(time.RFC3339Nano)}).
		WithData(map[string]string{toldKey: text}), metav1.ApplyOptions{FieldManager: manager, Force: true})
	if err == nil {
		r.told, r.written = planes, time.Now()
	}
	return err
}

// withdraw deletes what this replica told.
func (r *replicas) withdraw(ctx context.Context) error {
	if r.written.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	err := r.status.watches.clients.CoreV1().ConfigMaps(r.status.source.opts.Proxies.Namespace).Delete(ctx, r.name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	r.told, r.written = nil, time.Time{}
	return nil
}

// hear reads what the others tell, and deletes what has not been renewed.
func (r *replicas) hear(ctx context.Context) error {
	if err := r.withdraw(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	configMaps := r.status.watches.clients.CoreV1().ConfigMaps(r.status.source.opts.Proxies.Namespace)
	list, err := configMaps.List(ctx, metav1.ListOptions{LabelSelector: toldLabel + "=" + short(r.status.source.opts.Controller), ResourceVersion: "0"})
	if err != nil {
		return err
	}
	next := map[string]hearsay{}
	for _, m := range list.Items {
		h, ok := r.heard[m.Name]
		if !ok || h.version != m.ResourceVersion {
			h = hearsay{version: m.ResourceVersion, at: time.Now(), planes: readTold(&m)}
		}
		if time.Since(h.at) < staleAfter {
			next[m.Name] = h
			continue
		}
		next[m.Name] = hearsay{version: h.version, at: h.at}
		version := m.ResourceVersion
		if err := configMaps.Delete(ctx, m.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	before := toldBy(r.heard)
	r.heard = next
	if now := toldBy(next); !reflect.DeepEqual(before, now) {
		r.status.heard.Store(&now)
		r.status.source.changed()
	}
	return nil
}

// toldBy returns all that was heard.
func toldBy(heard map[string]hearsay) map[types.NamespacedName][]delivery.DataPlane {
	out := map[types.NamespacedName][]delivery.DataPlane{}
	for _, name := range slices.Sorted(maps.Keys(heard)) {
		for account, planes := range heard[name].planes {
			out[account] = append(out[account], planes...)
		}
	}
	return out
}

// writeTold writes data planes, by namespace/name of their ServiceAccount: as many as there is room for.
func writeTold(planes map[types.NamespacedName][]delivery.DataPlane) (string, error) {
	out := map[string]json.RawMessage{}
	size := 0
	for _, account := range slices.SortedFunc(maps.Keys(planes), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }) {
		text, err := json.Marshal(planes[account])
		if err != nil {
			return "", err
		}
		if size += len(account.String()) + len(text) + 8; size > maxTold {
			break
		}
		out[account.String()] = text
	}
	text, err := json.Marshal(out)
	return string(text), err
}

// readTold reads what writeTold wrote; what can't be read is as if it had not been told.
func readTold(m *corev1.ConfigMap) map[types.NamespacedName][]delivery.DataPlane {
	var planes map[string][]delivery.DataPlane
	if json.Unmarshal([]byte(m.Data[toldKey]), &planes) != nil {
		return nil
	}
	out := map[types.NamespacedName][]delivery.DataPlane{}
	for account, list := range planes {
		if namespace, name, ok := strings.Cut(account, "/"); ok {
			out[types.NamespacedName{Namespace: namespace, Name: name}] = list
		}
	}
	return out
}

// standing returns how all data planes stand, as far as this replica knows.
func (s *status) standing() standing {
	proxies := s.source.opts.Proxies
	if proxies == nil {
		return standing{}
	}
	out := standing{planes: map[types.NamespacedName][]delivery.DataPlane{}}
	maps.Copy(out.planes, proxies.DataPlanes())
	if heard := s.heard.Load(); heard != nil {
		for account, planes := range *heard {
			out.planes[account] = slices.Concat(out.planes[account], planes)
		}
	}
	since := s.since.Load()
	out.unsure = since == nil || time.Since(*since) < delivery.Lingers
	return out
}
