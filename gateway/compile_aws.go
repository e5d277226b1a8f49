package gateway

import (
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// defaultRegion is the AWS region where the configuration names none.
const defaultRegion = "us-east-1"

// awsCredentials returns the credentials that requests to AWS are signed with: those of a
// Secret, or what the process runs on. When the Secret is missing or lacks a key it reports
// that and returns nil.
func (c *compiler) awsCredentials(o object, path string, auth *v1alpha1.AWSAuth, region string) aws.CredentialsProvider {
	if auth == nil {
		return c.ambient(region)
	}
	path += ".secretRef.name"
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: auth.SecretRef.Name}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path, name, "Invalid")
		return nil
	}
	value := func(key string) secret.Value {
		v := strings.TrimSpace(string(s.Data[key]))
		if !utf8.ValidString(v) {
			v = ""
		}
		return secret.New(v)
	}
	out := sigv4.Static{AccessKey: value("accessKey"), SecretKey: value("secretKey"), SessionToken: value("sessionToken")}
	for _, need := range []struct {
		key   string
		value secret.Value
	}{{"accessKey", out.AccessKey}, {"secretKey", out.SecretKey}} {
		if need.value.IsZero() {
			c.add(o, path, finding{
				class: config.Unresolved, code: config.CodeUnresolvedSecret, reason: "Invalid",
				help: "the keys are accessKey and secretKey and, for temporary credentials, sessionToken",
			}, "Secret %q has no usable key %s", name.Name, need.key)
			return nil
		}
	}
	return out
}

// ambient returns the credentials of what the process runs on, for a region.
func (c *compiler) ambient(region string) *sigv4.Ambient {
	a := c.snapshot.aws[region]
	if a == nil {
		a = c.rt.ambient(region)
		c.snapshot.aws[region] = a
	}
	return a
}

// ambient returns the credentials of what the process runs on: those in use, or new ones,
// which are kept once a snapshot with them is prepared.
func (rt *Runtime) ambient(region string) *sigv4.Ambient {
	if rt != nil {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if a := rt.aws[region]; a != nil {
			return a
		}
	}
	return sigv4.NewAmbient(region)
}
