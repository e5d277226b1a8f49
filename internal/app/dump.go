package app

import (
	"strings"

	"encoding/json"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/secret"
)

// dump returns the resources that are served as JSON, without what they hold in
// confidence: data of Secrets and ConfigMaps, fields of the API that are secret
// (they print themselves redacted), the environment and arguments of children,
// headers that carry credentials, and annotations, in which tools keep copies of
// whole objects.
func dump(res *config.Resources) ([]byte, error) {
	shown := *res
	shown.Positions = nil
	shown.Secrets = nil
	for _, s := range res.Secrets {
		s = s.DeepCopy()
		s.StringData = nil
		for key := range s.Data {
			s.Data[key] = nil
		}
		shown.Secrets = append(shown.Secrets, s)
	}
	shown.ConfigMaps = nil
	for _, c := range res.ConfigMaps {
		shown.ConfigMaps = append(shown.ConfigMaps, &corev1.ConfigMap{TypeMeta: c.TypeMeta, ObjectMeta: c.ObjectMeta})
	}
	data, err := json.Marshal(&shown)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	return jsonv2.Marshal(redact(tree), jsonv2.Deterministic(true), jsontext.WithIndent("  "))
}

// redact returns a JSON value without what dump leaves out.
func redact(value any) any {
	switch v := value.(type) {
	case map[string]any:
		if name, ok := v["name"].(string); ok && credentialHeader(name) && v["value"] != nil {
			v["value"] = secret.Redacted
		}
		for key, inner := range v {
			switch key {
			case "annotations", "managedFields":
				delete(v, key)
			case "env", "args":
				v[key] = secret.Redacted
			default:
				v[key] = redact(inner)
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = redact(v[i])
		}
		return v
	default:
		return value
	}
}

// credentialHeader reports whether a header by its name carries a credential.
func credentialHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"authorization", "cookie", "token", "secret", "key", "password"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
