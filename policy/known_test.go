package policy

import "testing"

func TestKnown(t *testing.T) {
	claims := func(s string) *Claims {
		c, err := NewClaims([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	req := &Request{Client: Client{
		JWT:    claims(`{"sub":"u","n":3,"f":1.5,"ok":true,"none":null,"groups":["a","b"],"org":{"team":"blue","size":2}}`),
		APIKey: claims(`{"id":"s/e","team":"red"}`),
	}}
	if err := req.Tell(ExtAuthNamespace, map[string]any{"plan": "gold"}); err != nil {
		t.Fatal(err)
	}
	if err := req.Tell("com.acme", map[string]any{"size": 1234567.0, "tags": []any{"a", 1.0}}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		namespace string
		path      []string
		want      string
		ok        bool
	}{
		{"jwt", []string{"sub"}, "u", true},
		{"jwt", []string{"n"}, "3", true},
		{"jwt", []string{"f"}, "1.5", true},
		{"jwt", []string{"ok"}, "true", true},
		{"jwt", []string{"none"}, "", false},
		{"jwt", []string{"groups"}, `["a","b"]`, true},
		{"jwt", []string{"org"}, `{"size":2,"team":"blue"}`, true},
		{"jwt", []string{"org", "team"}, "blue", true},
		{"jwt", []string{"org", "team", "more"}, "", false},
		{"jwt", []string{"lacking"}, "", false},
		{"jwt", nil, "", false},
		{JWTNamespace, []string{"jwt_payload", "sub"}, "u", true},
		{JWTNamespace, []string{"sub"}, "", false},
		{JWTNamespace, nil, "", false},
		{"apiKey", []string{"team"}, "red", true},
		{"extauthz", []string{"plan"}, "gold", true},
		{"envoy.filters.http.ext_authz", []string{"plan"}, "gold", true},
		{"com.acme", []string{"size"}, "1234567", true},
		{"com.acme", []string{"tags"}, `["a",1]`, true},
		{"other", []string{"sub"}, "", false},
	} {
		if got, ok := req.Known(tt.namespace, tt.path...); got != tt.want || ok != tt.ok {
			t.Errorf("%s %v: %q, %t", tt.namespace, tt.path, got, ok)
		}
	}
	if _, ok := new(Request).Known("jwt", "sub"); ok {
		t.Error("something is known of nobody")
	}
}
