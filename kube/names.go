package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// The labels of what the controller makes.
const (
	managedBy = "app.kubernetes.io/managed-by"
	manager   = "mcpgw"
)

// nameFor returns the name of what is made for a Gateway: that of the Gateway, or where a Service and a label can't have it,
// one that is told apart by a hash.
func nameFor(gateway string) string {
	if len(validation.IsDNS1035Label(gateway)) == 0 {
		return gateway
	}
	sum := sha256.Sum256([]byte(gateway))
	kept := strings.Trim(regexp.MustCompile("[^a-z0-9-]").ReplaceAllString(gateway, "-"), "-")
	return "gw-" + strings.TrimRight(kept[:min(len(kept), 50)], "-") + "-" + hex.EncodeToString(sum[:4])
}
