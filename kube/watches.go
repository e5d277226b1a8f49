package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// watches are the caches of what the API server has.
type watches struct {
	source     *Source
	logger     *slog.Logger
	http       *http.Client
	scheme     *runtime.Scheme
	cache      cache.Cache
	mapper     meta.RESTMapper
	clients    *kubernetes.Clientset
	references *references
	service    client.ObjectKey // whose addresses the Gateways have, if any

	missing   map[string]client.Object // kinds that the API server does not have, by name
	informers []cache.Informer
	parsed    map[string]parsed // objects of our kinds, by UID
	unwell    sync.Map          // when was told what can't be watched, by kind
	gone      atomic.Bool       // the API server can't be reached
}

// ownObject returns an object of one of our kinds as it is watched: in the spelling that it is
// written in.
func ownObject(kind string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	return o
}

// namespaceObject returns a Namespace as it is watched: its metadata.
func namespaceObject() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// watched returns the kinds that are watched as a whole, by name.
func (s *Source) watched() map[string]client.Object {
	kinds := map[string]client.Object{
		"GatewayClass": &gatewayv1.GatewayClass{}, "Gateway": &gatewayv1.Gateway{},
		"ListenerSet": &gatewayv1.ListenerSet{},
		"HTTPRoute":   &gatewayv1.HTTPRoute{}, "GRPCRoute": &gatewayv1.GRPCRoute{},
		"ReferenceGrant": &gatewayv1.ReferenceGrant{}, "BackendTLSPolicy": &gatewayv1.BackendTLSPolicy{},
		"Service": &corev1.Service{}, "EndpointSlice": &discoveryv1.EndpointSlice{},
	}
	if len(s.opts.Namespaces) == 0 { // else only who may see all could read their labels
		kinds["Namespace"] = namespaceObject()
	}
	for _, kind := range v1alpha1.Kinds() {
		kinds[kind] = ownObject(kind)
	}
	if s.opts.Proxies != nil {
		maps.Copy(kinds, managedKinds())
	}
	return kinds
}

func newWatches(s *Source) (*watches, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		return nil, err
	}
	httpClient, err := rest.HTTPClientFor(s.opts.Config)
	if err != nil {
		return nil, fmt.Errorf("preparing to reach the API server: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(s.opts.Config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("preparing to reach the API server: %w", err)
	}
	w := &watches{source: s, http: httpClient, scheme: scheme, logger: s.opts.Logger, mapper: mapper, missing: s.watched(), parsed: map[string]parsed{}}
	if namespace, name, ok := strings.Cut(s.opts.Service, "/"); ok {
		w.service = client.ObjectKey{Namespace: namespace, Name: name}
	}
	shared := true
	options := cache.Options{
		HTTPClient: httpClient, Scheme: scheme, Mapper: mapper,
		ReaderFailOnMissingInformer:  true,
		DefaultUnsafeDisableDeepCopy: &shared, // nothing here changes what it reads
		DefaultTransform:             trim,
		DefaultWatchErrorHandler:     w.failed,
	}
	if s.opts.Proxies != nil {
		options.ByObject = map[client.Object]cache.ByObject{}
		for _, o := range managedKinds() {
			options.ByObject[o] = cache.ByObject{Label: labels.SelectorFromSet(labels.Set{managedBy: manager})}
		}
	}
	if len(s.opts.Namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range s.opts.Namespaces {
			options.DefaultNamespaces[n] = cache.Config{}
		}
	}
	if w.cache, err = cache.New(s.opts.Config, options); err != nil {
		return nil, fmt.Errorf("preparing the caches: %w", err)
	}
	w.clients, err = kubernetes.NewForConfigAndClient(s.opts.Config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("preparing to reach the API server: %w", err)
	}
	w.references = newReferences(w.clients.CoreV1().RESTClient(), s.changed, w.failed)
	return w, nil
}

// run fills the caches until ctx ends.
func (w *watches) run(ctx context.Context) {
	if err := w.cache.Start(ctx); err != nil {
		w.logger.Error("the caches ended", slog.Any("error", err))
	}
}

// begin waits until the API server can be reached and has the kinds without which there is nothing to
// do; it reports false when ctx ends before.
func (w *watches) begin(ctx context.Context) bool {
	told := ""
	for {
		err := w.lookForMissing(ctx)
		lacking := w.lacking()
		if err == nil && len(lacking) == 0 {
			return true
		}
		message := fmt.Sprintf("the API server lacks the kinds %s", strings.Join(lacking, ", "))
		if err != nil {
			message = err.Error()
		}
		if message != told {
			told = message
			w.logger.Error("waiting for the API server", slog.String("problem", message), slog.String("help", "install the definitions of the Gateway API, and those that `mcpgw crds` prints"))
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
}

// lacking returns the kinds that are missing and can't be.
func (w *watches) lacking() (out []string) {
	for name := range w.missing {
		switch name {
		case "ListenerSet", "GRPCRoute", "ReferenceGrant", "BackendTLSPolicy": // not in every release of the Gateway API
		default:
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// lookForMissing begins to watch the kinds that the API server has got.
func (w *watches) lookForMissing(ctx context.Context) error {
	for name, o := range w.missing {
		informer, err := w.cache.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if meta.IsNoMatchError(err) {
			continue
		}
		if err == nil {
			_, err = informer.AddEventHandler(handler(w.source.changed))
		}
		if err != nil {
			return fmt.Errorf("watching kind %s: %w", name, err)
		}
		w.informers = append(w.informers, informer)
		delete(w.missing, name)
	}
	return nil
}

// handler calls f for each event.
func handler(f func()) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { f() }, UpdateFunc: func(any, any) { f() }, DeleteFunc: func(any) { f() },
	}
}

// synced waits until all that is watched is known once; it reports false when ctx ends before.
func (w *watches) synced(ctx context.Context) bool {
	var all []toolscache.InformerSynced
	for _, i := range w.informers {
		all = append(all, i.HasSynced)
	}
	return toolscache.WaitForCacheSync(ctx.Done(), all...)
}

// failed is told why something can't be watched just now: it is tried again with growing pauses, and
// what is known stays.
func (w *watches) failed(_ context.Context, r *toolscache.Reflector, err error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // it is listed again
	}
	if w.gone.Load() {
		return // told already
	}
	if last, told := w.unwell.Swap(r.TypeDescription(), time.Now()); told && time.Since(last.(time.Time)) < time.Minute {
		return
	}
	w.logger.Warn("can't watch, what is known stays in use", slog.String("kind", r.TypeDescription()), slog.Any("problem", err))
}

// trim keeps of an object what can matter.
func trim(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	switch o := o.(type) {
	case *corev1.Service:
		o.Spec = corev1.ServiceSpec{Type: o.Spec.Type, Ports: o.Spec.Ports, ClusterIP: o.Spec.ClusterIP, ExternalName: o.Spec.ExternalName}
		o.Status = corev1.ServiceStatus{LoadBalancer: o.Status.LoadBalancer}
	case *appsv1.Deployment:
		o.Spec = appsv1.DeploymentSpec{}
		o.Annotations = nil
	case *discoveryv1.EndpointSlice:
		o.OwnerReferences, o.Annotations = nil, nil
		o.Labels = map[string]string{discoveryv1.LabelServiceName: o.Labels[discoveryv1.LabelServiceName]}
		for i, e := range o.Endpoints {
			o.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready}}
		}
	}
	return o, nil
}
