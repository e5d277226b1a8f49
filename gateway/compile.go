package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/authn"
	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/upstream/oauth"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// Compile resolves res and returns what the data plane serves from it, with a report
// of what became of every object. It never fails as a whole: what can't be used is left
// out, or answers 500, and is reported.
//
// With a nil Runtime it only reports, and the Snapshot can't be served: that is what
// validating a configuration does. With one, nothing that is served changes before
// [Server.Apply] commits the Snapshot.
func Compile(res *config.Resources, rt *Runtime) (*Snapshot, *config.Report) {
	c := newCompiler(res, rt)
	c.compileConnections()
	c.compileIdentities()
	c.compileExtensions()
	c.compilePolicies()
	c.checkClaims()
	c.compileGateways()
	c.compileListenerSets()
	c.compileListening()
	c.compileRoutes()
	c.assumeRoutes()
	c.checkApplied()
	c.checkOutdone()
	c.checkUnused()
	c.checkUnserved()
	return c.finish(), c.report
}

// A compiler is one run of [Compile].
type compiler struct {
	res    *config.Resources
	rt     *Runtime
	report *config.Report

	services   map[types.NamespacedName]*corev1.Service
	slices     map[types.NamespacedName][]*discoveryv1.EndpointSlice
	secrets    map[types.NamespacedName]*corev1.Secret
	backends   map[types.NamespacedName]*v1alpha1.Backend
	directs    map[types.NamespacedName]*v1alpha1.DirectResponse
	routes     map[types.NamespacedName]*gatewayv1.HTTPRoute
	gateways   map[types.NamespacedName]*gatewayv1.Gateway
	sets       map[types.NamespacedName]*gatewayv1.ListenerSet
	namespaces map[string]labels.Set

	attached     map[attachment][]attachedPolicy
	listening    map[object][]attachment                    // what HTTPListenerPolicies cover
	idles        map[int]time.Duration                      // how long connections stay open, by port, where a policy says so
	connecting   map[attachment][]connectionPolicy          // the policies on connections, by what they cover
	encrypted    map[attachment]*gatewayv1.BackendTLSPolicy // by what they cover
	clientChecks map[string]*clientCheck                    // by Gateway and field
	identities   map[types.NamespacedName]*clientIdentity   // of Gateways
	common       *clientIdentity                            // that all Gateways have, nil for none
	shown        *clientIdentity                            // to backends that are compiled now
	connections  map[connectionKey]*connection              // by Backend, and by port of a Service
	mcps         []mcpPlan
	coverings    map[string]*covering
	holds        map[object]bool      // policies of which a field holds somewhere
	outdone      map[object][]outdone // where more specific ones hold
	noted        map[string]bool      // problems that were told already
	applied      map[object]bool      // policies whose spec.ai holds somewhere
	expressions  map[string]compiledExpression
	setParents   map[types.NamespacedName]types.NamespacedName // the Gateways of ListenerSets
	listeners    []*openListener
	closed       []*openListener // of which only the certificate is missing: routes attach to them, and nothing is served from them
	extensions   map[types.NamespacedName]*compiledExtension
	destinations map[string]*destination
	made         map[object]bool               // Backends with a destination
	zones        map[string]string             // by address of an endpoint
	routed       map[types.NamespacedName]bool // Backends that a route refers to
	assumed      bool                          // the Gateway is
	snapshot     *Snapshot
}

func newCompiler(res *config.Resources, rt *Runtime) *compiler {
	c := &compiler{
		res: res, rt: rt, report: new(config.Report),
		services:     index(res.Services),
		secrets:      index(res.Secrets),
		backends:     index(res.Backends),
		directs:      index(res.DirectResponses),
		routes:       index(res.HTTPRoutes),
		gateways:     index(res.Gateways),
		sets:         index(res.ListenerSets),
		setParents:   map[types.NamespacedName]types.NamespacedName{},
		slices:       map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		namespaces:   map[string]labels.Set{},
		attached:     map[attachment][]attachedPolicy{},
		listening:    map[object][]attachment{},
		idles:        map[int]time.Duration{},
		connecting:   map[attachment][]connectionPolicy{},
		encrypted:    map[attachment]*gatewayv1.BackendTLSPolicy{},
		clientChecks: map[string]*clientCheck{},
		identities:   map[types.NamespacedName]*clientIdentity{},
		connections:  map[connectionKey]*connection{},
		coverings:    map[string]*covering{},
		holds:        map[object]bool{},
		outdone:      map[object][]outdone{},
		noted:        map[string]bool{},
		applied:      map[object]bool{},
		expressions:  map[string]compiledExpression{},
		extensions:   map[types.NamespacedName]*compiledExtension{},
		destinations: map[string]*destination{},
		made:         map[object]bool{},
		zones:        map[string]string{},
		routed:       map[types.NamespacedName]bool{},
		snapshot: &Snapshot{fingerprint: res.Fingerprint, ports: map[int]*port{}, pools: map[string]poolPlan{}, health: map[string]*llm.Health{},
			counts: map[string]any{}, tokens: map[string]*oauth.Tokens{}, aws: map[string]*sigv4.Ambient{}, keys: map[string]*authn.RemoteKeys{}},
	}
	for _, s := range res.EndpointSlices {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		c.slices[key] = append(c.slices[key], s)
	}
	for _, n := range res.Namespaces {
		c.namespaces[n.Name] = labels.Merge(n.Labels, labels.Set{corev1.LabelMetadataName: n.Name})
	}
	return c
}

// index returns the objects by namespace and name; of two with the same name, the
// first.
func index[T metav1.Object](objects []T) map[types.NamespacedName]T {
	m := make(map[types.NamespacedName]T, len(objects))
	for _, o := range objects {
		if _, ok := m[nameOf(o)]; !ok {
			m[nameOf(o)] = o
		}
	}
	return m
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// namespaceLabels returns the labels of a namespace, also of one that nobody declared.
func (c *compiler) namespaceLabels(name string) labels.Set {
	if l, ok := c.namespaces[name]; ok {
		return l
	}
	return labels.Set{corev1.LabelMetadataName: name}
}

// An object is what problems are reported about.
type object struct {
	kind string
	name types.NamespacedName
}

func objectOf(kind string, o metav1.Object) object { return object{kind, nameOf(o)} }

func (o object) ref() config.ObjectRef {
	return config.ObjectRef{Kind: o.kind, Namespace: o.name.Namespace, Name: o.name.Name}
}

func (o object) String() string { return o.ref().String() }

// A finding is one problem before it has a place.
type finding struct {
	class  config.Class
	code   string
	reason string // condition reason; "" means Invalid
	help   string
}

// add reports a finding about the field at path of o.
func (c *compiler) add(o object, path string, f finding, format string, args ...any) {
	p := config.Problem{
		Class: f.class, Code: f.code, Object: o.ref(), Path: path,
		Reason: f.reason, Help: f.help, Message: fmt.Sprintf(format, args...),
	}
	c.report.AddAt(c.res.Positions, p)
}

// checkUnserved reports the fields of all objects that nothing serves yet. What those
// that protect cover answers 500: compilePolicies and destination see to that.
func (c *compiler) checkUnserved() {
	for _, o := range c.res.Backends {
		c.reportUnserved(objectOf(v1alpha1.KindBackend, o), o)
	}
	for _, o := range c.res.TrafficPolicies {
		c.reportUnserved(objectOf(v1alpha1.KindTrafficPolicy, o), o)
	}
	for _, o := range c.res.HTTPListenerPolicies {
		c.reportUnserved(objectOf(v1alpha1.KindHTTPListenerPolicy, o), o)
	}
	for _, o := range c.res.BackendConfigPolicies {
		c.reportUnserved(objectOf(v1alpha1.KindBackendConfigPolicy, o), o)
	}
	for _, o := range c.res.GatewayExtensions {
		c.reportUnserved(objectOf(v1alpha1.KindGatewayExtension, o), o)
	}
}

// checkUnused reports what is wrong with the Backends that nothing refers to. They are
// not made: no target of theirs is contacted.
func (c *compiler) checkUnused() {
	c.rt = nil
	for _, b := range c.res.Backends {
		o := objectOf(v1alpha1.KindBackend, b)
		if c.made[o] {
			continue
		}
		c.backend(b)
		if c.res.Local && !c.routed[o.name] {
			c.add(o, "", finding{class: config.Warning, code: config.CodeUnused, help: "add an HTTPRoute that refers to it"},
				"no route refers to the Backend, so it gets no requests")
		}
	}
}

func (c *compiler) reportUnserved(o object, obj any) {
	for _, u := range v1alpha1.Unserved(obj) {
		f := finding{class: config.Warning, code: config.CodeUnserved}
		if u.Protects {
			f.class, f.reason = config.Unresolved, "Pending"
		}
		c.add(o, u.Path, f, "%s", u.Message)
	}
}

// protects reports whether what obj covers must not be served: obj holds a mistake, or has a field that
// protects and that nothing serves.
func (c *compiler) protects(o object, obj any) bool {
	if c.res.Broken[o.ref()] {
		return true
	}
	for _, u := range v1alpha1.Unserved(obj) {
		if u.Protects {
			return true
		}
	}
	return false
}

// didYouMean returns help that names the candidate nearest to name, or, when there is
// none near, what there is.
func didYouMean(name string, candidates []string, otherwise string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := editDistance(name, c, distance); d < distance {
			best, distance = c, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return otherwise
}

// editDistance returns the Levenshtein distance of a and b, or limit when it is not
// smaller.
func editDistance(a, b string, limit int) int {
	if abs(len(a)-len(b)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return min(row[len(b)], limit)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// names returns the names of the objects in a namespace.
func names[T any](objects map[types.NamespacedName]T, namespace string) []string {
	var out []string
	for n := range objects {
		if n.Namespace == namespace {
			out = append(out, n.Name)
		}
	}
	return sorted(out)
}

// listing returns a sentence that lists what there is.
func listing(what string, candidates []string) string {
	if len(candidates) == 0 {
		return "there is no " + what
	}
	const most = 5
	var quoted []string
	for _, c := range candidates[:min(len(candidates), most)] {
		quoted = append(quoted, strconv.Quote(c))
	}
	if len(candidates) > most {
		quoted = append(quoted, "…")
	}
	return "there is " + strings.Join(quoted, ", ")
}
