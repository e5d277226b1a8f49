// Package testkube has what tests against a real Kubernetes API server begin with: their addresses, and where hack/deps keeps the
// control plane.
package testkube

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Network is what the namespaces' loopback interface has beside 127.0.0.0/8: all of its addresses, 10.244.0.0/16, are
// local.
const Network = "10.244.0.1"

// Tools returns the folder in which hack/deps keeps what it made of hack/kube. module is the path of that.
func Tools(module string) (string, error) {
	hash := sha256.New()
	commands, err := filepath.Glob(filepath.Join(module, "*", "main.go"))
	if err != nil {
		return "", err
	}
	slices.Sort(commands)
	for _, name := range append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, commands...) {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "mcpgw", fmt.Sprintf("kube-%x", hash.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		return "", fmt.Errorf("the control plane is not built: run `hack/deps kube` (%w)", err)
	}
	return dir, nil
}
