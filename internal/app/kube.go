package app

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/kube"
)

// KubeOptions say which resources of a Kubernetes API server are served.
type KubeOptions struct {
	// Kubeconfig is a file, Context an entry of it; both may be empty.
	Kubeconfig, Context string
	// Namespaces are those that are watched; none is all.
	Namespaces []string
	// Controller is the controllerName of the GatewayClasses that are served; "" is that of upstream.
	Controller string
	// Addresses and Service say where clients reach the Gateways, for their status.
	Addresses []string
	Service   string
	// LookupEnv reads the variables that upstream's controller reads, as [os.LookupEnv] does; nil: there are none.
	LookupEnv func(string) (string, bool)
	// NoStatus leaves status to others. LeaseNamespace is where replicas agree on who writes it; "" is
	// that of this Pod.
	NoStatus       bool
	LeaseNamespace string
}

// check returns what is wrong with the options.
func (o *KubeOptions) check() error {
	if namespace, name, ok := strings.Cut(o.Service, "/"); o.Service != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("--publish-service is NAMESPACE/NAME, not %q", o.Service)
	}
	if o.Service != "" && len(o.Addresses) > 0 {
		return errors.New("give either --publish-address or --publish-service, not both")
	}
	return nil
}

// kubeSource returns the source of a cluster.
func kubeSource(opts ServeOptions, in *instance) (config.Source, error) {
	k, err := opts.Kube.options(opts.Logger)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	k.OnReport = func(report *config.Report) { in.tell(news(report, known), nil, true) }
	return kube.NewSource(k)
}

// options returns how the resources of a cluster are read, and status written.
func (o *KubeOptions) options(logger *slog.Logger) (kube.Options, error) {
	experimental, err := o.gates(logger)
	if err != nil {
		return kube.Options{}, exit(ExitUsage, err)
	}
	cfg, err := kube.LoadConfig(o.Kubeconfig, o.Context)
	if err != nil {
		return kube.Options{}, exit(ExitUsage, err)
	}
	lease, identity := "", ""
	if !o.NoStatus {
		lease = cmp.Or(o.LeaseNamespace, kube.PodNamespace())
		host, err := os.Hostname()
		if err != nil {
			return kube.Options{}, fmt.Errorf("naming this replica: %w", err)
		}
		identity = fmt.Sprintf("%s_%d", host, os.Getpid())
	}
	return kube.Options{
		Config: cfg, Controller: cmp.Or(o.Controller, gateway.ControllerName), Namespaces: o.Namespaces, Addresses: o.Addresses, Service: o.Service,
		LeaseNamespace: lease, Identity: identity, Logger: logger, Experimental: experimental,
	}, nil
}

// gates reads the variables of upstream's controller: whether experimental fields are served. Those that do nothing
// here are said to.
func (o *KubeOptions) gates(logger *slog.Logger) (experimental bool, err error) {
	if o.LookupEnv == nil {
		return false, nil
	}
	for _, name := range []string{"KGW_GLOBAL_POLICY_NAMESPACE", "KGW_WEIGHTED_ROUTE_PRECEDENCE", "KGW_ENABLE_ISTIO_AUTO_MTLS"} {
		if value, ok := o.LookupEnv(name); ok && value != "" && value != "false" {
			logger.Warn("a variable is set that is not served", slog.String("variable", name))
		}
	}
	value, ok := o.LookupEnv(kube.ExperimentalVariable)
	if !ok || value == "" {
		return false, nil
	}
	if experimental, err = strconv.ParseBool(value); err != nil {
		return false, fmt.Errorf("%s is true or false, not %q", kube.ExperimentalVariable, value)
	}
	return experimental, nil
}

// news returns the problems of a report that the one before had not, and notes which there are.
func news(report *config.Report, known map[string]bool) *config.Report {
	fresh, now := &config.Report{}, map[string]bool{}
	for _, p := range report.Problems {
		key := strings.Join([]string{p.Code, p.Object.String(), p.Path, p.Message}, "\x00")
		now[key] = true
		if !known[key] {
			fresh.Add(p)
		}
	}
	clear(known)
	maps.Copy(known, now)
	return fresh
}

// CRDs returns the custom resource definitions of the gateway.kgateway.dev kinds, as YAML.
func CRDs() ([]byte, error) {
	var out []byte
	for _, crd := range v1alpha1.CRDs() {
		text, err := yaml.Marshal(crd)
		if err != nil {
			return nil, fmt.Errorf("writing the definition of kind %s: %w", crd.Spec.Names.Kind, err)
		}
		out = append(append(out, "---\n"...), text...)
	}
	return out, nil
}
