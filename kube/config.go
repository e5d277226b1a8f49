package kube

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// LoadConfig returns how to reach the API server, as kubectl finds it: by the kubeconfig file at path,
// else by the variable KUBECONFIG or ~/.kube/config; without any of these, as a
// Pod does. context chooses among those of the file; "" is its current one.
func LoadConfig(path, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// The API server's priority and fairness hold back who asks too much; a limit here would only
	// make status late.
	c.QPS, c.Burst = -1, -1
	c.UserAgent = "mcpgw"
	return c, nil
}

// PodNamespace returns the namespace of the Pod that this process is in, or "default".
func PodNamespace() string {
	namespace, _, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{}, nil).Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}
