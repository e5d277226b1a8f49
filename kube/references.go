package kube

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/mcpgw/mcpgw/config"
)

// maxReferences bounds how many references to Secrets and ConfigMaps are followed. Each costs a watch.
const maxReferences = 2000

// knownWithin is how long resources wait for those that are referred to for the first time.
const knownWithin = 3 * time.Second

// A reference is what an object says of a Secret or ConfigMap: its name, or labels that it has.
type reference struct {
	configMap       bool
	namespace, name string
	labels          string // a selector
}

// references watch the Secrets and ConfigMaps that something refers to, each for itself: a role need not permit
// more, and no other comes into this process. They belong to one goroutine.
type references struct {
	client  rest.Interface
	changed func()
	failed  toolscache.WatchErrorHandlerWithContext
	watched map[reference]*watchedReference
	running sync.WaitGroup
}

// A watchedReference is one watch.
type watchedReference struct {
	store  toolscache.Store
	synced toolscache.InformerSynced
	stop   context.CancelFunc
}

func newReferences(c rest.Interface, changed func(), failed toolscache.WatchErrorHandlerWithContext) *references {
	return &references{client: c, changed: changed, failed: failed, watched: map[reference]*watchedReference{}}
}

// follow watches exactly what is wanted, and waits a while for those that are new. It reports
// false when there are too many; those that come last are not followed then.
func (r *references) follow(ctx context.Context, wanted map[reference]bool) bool {
	list := slices.SortedFunc(maps.Keys(wanted), func(a, b reference) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name), cmp.Compare(a.labels, b.labels), compareBool(a.configMap, b.configMap))
	})
	list = list[:min(len(list), maxReferences)]
	for ref, w := range r.watched {
		if !slices.Contains(list, ref) {
			w.stop()
			delete(r.watched, ref)
		}
	}
	var fresh []toolscache.InformerSynced
	for _, ref := range list {
		if r.watched[ref] == nil {
			w := r.watch(ref)
			r.watched[ref] = w
			fresh = append(fresh, w.synced)
		}
	}
	if len(fresh) > 0 {
		ctx, cancel := context.WithTimeout(ctx, knownWithin)
		defer cancel()
		toolscache.WaitForCacheSync(ctx.Done(), fresh...) // what is late comes as a change
	}
	return len(wanted) <= maxReferences
}

// watch begins to watch what a reference says.
func (r *references) watch(ref reference) *watchedReference {
	ctx, stop := context.WithCancel(context.Background())
	resource, kind := "secrets", runtime.Object(&corev1.Secret{})
	if ref.configMap {
		resource, kind = "configmaps", &corev1.ConfigMap{}
	}
	list := toolscache.NewFilteredListWatchFromClient(r.client, resource, ref.namespace, func(o *metav1.ListOptions) {
		if ref.name != "" {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", ref.name).String()
		}
		o.LabelSelector = ref.labels
	})
	informer := toolscache.NewSharedInformer(list, kind, 0)
	_ = informer.SetWatchErrorHandlerWithContext(r.failed) // it has not been started
	registration, _ := informer.AddEventHandler(handler(r.changed))
	r.running.Go(func() { informer.RunWithContext(ctx) })
	return &watchedReference{store: informer.GetStore(), synced: registration.HasSynced, stop: stop}
}

// found adds what is known to r. Two references may lead to one object.
func (r *references) found(to *config.Resources) {
	seen := map[reference]bool{}
	for _, w := range r.watched {
		for _, o := range w.store.List() {
			switch o := o.(type) {
			case *corev1.Secret:
				if ref := (reference{namespace: o.Namespace, name: o.Name}); !seen[ref] {
					seen[ref] = true
					to.Secrets = append(to.Secrets, o)
				}
			case *corev1.ConfigMap:
				if ref := (reference{configMap: true, namespace: o.Namespace, name: o.Name}); !seen[ref] {
					seen[ref] = true
					to.ConfigMaps = append(to.ConfigMaps, o)
				}
			}
		}
	}
	sortByAge(to.Secrets)
	sortByAge(to.ConfigMaps)
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// close ends all watches.
func (r *references) close() {
	for _, w := range r.watched {
		w.stop()
	}
	r.running.Wait()
}

// secretsOf adds what obj, a normalised object of one of our kinds, refers to.
func secretsOf(namespace string, obj any, to map[reference]bool) {
	switch v := obj.(type) {
	case []any:
		for _, item := range v {
			secretsOf(namespace, item, to)
		}
	case map[string]any:
		for k, sub := range v {
			m, _ := sub.(map[string]any)
			switch k {
			case "secretRef":
				if name, _ := m["name"].(string); name != "" {
					to[reference{namespace: namespace, name: name}] = true
				}
			case "secretSelector":
				match, _ := m["matchLabels"].(map[string]any)
				set := labels.Set{}
				for label, value := range match {
					set[label], _ = value.(string)
				}
				if len(set) > 0 { // never all Secrets
					to[reference{namespace: namespace, labels: set.String()}] = true
				}
			default:
				secretsOf(namespace, sub, to)
			}
		}
	}
}
