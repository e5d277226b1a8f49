package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

// Audience is whom the tokens of data planes are for.
const Audience = "mcpgw-controller"

// Proxies say how data planes, which are processes of their own for each Gateway, are served.
type Proxies struct {
	// Namespace is the controller's: its Secrets with the session keys and its certificate are there.
	Namespace string
	// Address is host:port at which data planes reach the controller; its certificate is for that host.
	Address string
	// Image is that of data planes.
	Image string
	// KeyAge is how long session keys are used before they are followed by others; 0 is for ever.
	KeyAge time.Duration
	// Identity is what the controller proves itself with to data planes.
	Identity *Identity
	// Deliver gets what data planes need, by the ServiceAccount that they run as.
	Deliver func(map[types.NamespacedName]delivery.Set)
	// DataPlanes returns how those that are connected to this replica stand, by ServiceAccount. When it may return something else, Look is
	// called.
	DataPlanes func() map[types.NamespacedName][]delivery.DataPlane
}

// served returns the Gateways whose class is the controller's.
func (s *set) served(controller string) []*gatewayv1.Gateway {
	classes := map[gatewayv1.ObjectName]bool{}
	for _, c := range s.resources.GatewayClasses {
		classes[gatewayv1.ObjectName(c.Name)] = string(c.Spec.ControllerName) == controller
	}
	return slices.DeleteFunc(slices.Clone(s.resources.Gateways), func(g *gatewayv1.Gateway) bool { return !classes[g.Spec.GatewayClassName] })
}

// A deliverer is what is kept between deliveries.
type deliverer struct {
	writer      writer
	fingerprint string // of the resources that shares are of
	shares      map[types.NamespacedName]delivery.Set
	last        string // identifies what was delivered
}

// share finds what each Gateway needs of a set, if that can be another than before.
func (d *deliverer) share(set *set, report *config.Report, gateways []*gatewayv1.Gateway) error {
	if d.shares != nil && d.fingerprint == set.resources.Fingerprint {
		return nil
	}
	shares, err := set.share(report, gateways, &d.writer)
	if err == nil {
		d.fingerprint, d.shares = set.resources.Fingerprint, shares
	}
	return err
}

// deliver hands out what each data plane needs of a set, if that can be another than before. It was begun to be found at a time.
func (s *Source) deliver(set *set, gateways []*gatewayv1.Gateway, d *deliverer, begin time.Time) error {
	now := time.Now()
	order, err := set.keys.of("", now)
	if err != nil {
		return err
	}
	this := fmt.Sprintf("%s %x", d.fingerprint, sha256.Sum256(slices.Concat(order...)))
	if this == d.last {
		return nil
	}
	d.last = this
	out := make(map[types.NamespacedName]delivery.Set, len(d.shares))
	for _, g := range gateways {
		share := maps.Clone(d.shares[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}])
		keys, err := set.keys.of(g.UID, now)
		if err != nil {
			return err
		}
		share.SetSessionKeys(keys)
		out[accountOf(g)] = share
	}
	s.opts.Proxies.Deliver(out)
	s.opts.Metrics.published(begin)
	return nil
}

// accountOf returns the ServiceAccount that the data planes of a Gateway run as.
func accountOf(g *gatewayv1.Gateway) types.NamespacedName {
	return types.NamespacedName{Namespace: g.Namespace, Name: nameFor(g.Name)}
}

// NewAuthenticator returns the Authenticate of a [delivery.Server]: it asks the API server whose token it is.
func NewAuthenticator(cfg *rest.Config) (func(ctx context.Context, token string) (types.NamespacedName, error), error) {
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing to check tokens: %w", err)
	}
	return func(ctx context.Context, token string) (types.NamespacedName, error) {
		review, err := clients.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
		}, metav1.CreateOptions{})
		switch {
		case err != nil:
			return types.NamespacedName{}, fmt.Errorf("asking the API server: %w", err)
		case !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, Audience):
			return types.NamespacedName{}, fmt.Errorf("%w: %s", delivery.ErrStranger, cmp.Or(review.Status.Error, "it is not for "+Audience))
		}
		account, ok := strings.CutPrefix(review.Status.User.Username, "system:serviceaccount:")
		namespace, name, found := strings.Cut(account, ":")
		if !ok || !found {
			return types.NamespacedName{}, fmt.Errorf("%w: %q is no ServiceAccount", delivery.ErrStranger, review.Status.User.Username)
		}
		return types.NamespacedName{Namespace: namespace, Name: name}, nil
	}, nil
}

// ownSecrets are the controller's, which no Gateway gets.
func (p *Proxies) ownSecrets() []reference {
	return []reference{{namespace: p.Namespace, name: keysSecret}, {namespace: p.Namespace, name: identitySecret}}
}

// takeOwn takes the controller's own Secrets out of those that are there.
func (p *Proxies) takeOwn(from *config.Resources) (own map[string]*corev1.Secret) {
	own = map[string]*corev1.Secret{}
	from.Secrets = slices.DeleteFunc(from.Secrets, func(o *corev1.Secret) bool {
		is := slices.Contains(p.ownSecrets(), reference{namespace: o.Namespace, name: o.Name})
		if is {
			own[o.Name] = o
		}
		return is
	})
	return own
}

// prepare makes what the controller itself needs, where it is not there, and uses what is. It reports false while
// something is missing: it comes as a change.
func (s *Source) prepare(ctx context.Context, w *watches, set *set) (bool, error) {
	p := s.opts.Proxies
	secrets := w.clients.CoreV1().Secrets(p.Namespace)
	missing := false
	for name, fresh := range map[string]func() (map[string][]byte, error){keysSecret: freshKeys, identitySecret: freshAuthority} {
		if set.ownSecrets[name] != nil {
			continue
		}
		missing = true
		data, err := fresh()
		if err != nil {
			return false, err
		}
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name, Labels: map[string]string{managedBy: manager}}, Data: data, Type: corev1.SecretTypeOpaque,
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) { // another replica was first
			s.complain("making Secret "+p.Namespace+"/"+name, err)
		}
	}
	if missing {
		return false, nil
	}
	keys, err := readKeys(set.ownSecrets[keysSecret])
	if err == nil {
		set.keys = keys
		err = p.Identity.use(set.ownSecrets[identitySecret])
	}
	if err != nil {
		s.complain("using the controller's own Secrets: delete what is wrong, and it is made anew", err)
		return false, nil
	}
	return true, nil
}

// complain says once what keeps the controller from its work.
func (s *Source) complain(doing string, err error) {
	if message := fmt.Sprintf("%s: %v", doing, err); message != s.said {
		s.said = message
		s.opts.Logger.Error("data planes are not served", slog.String("problem", message))
	}
}
