package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func claimsOf(t *testing.T, object string) *Claims {
	t.Helper()
	c, err := NewClaims([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClaims(t *testing.T) {
	c := claimsOf(t, `{"s": "a", "i": 3, "f": 3.9, "huge": 1e300, "big": 9223372036854775807, "l": ["a", "b"], "e": [], "m": ["a", 1], "n": null, "o": {}}`)
	for name, want := range map[string]any{"s": "a", "i": nil, "n": nil, "x": nil} {
		if got, ok := c.Text(name); ok != (want != nil) || ok && got != want {
			t.Errorf("%s is the text %q, %v", name, got, ok)
		}
	}
	for name, want := range map[string]any{"i": int64(3), "f": int64(3), "big": int64(9223372036854775807), "huge": nil, "s": nil, "n": nil, "x": nil} {
		if got, ok := c.Number(name); ok != (want != nil) || ok && got != want {
			t.Errorf("%s is the number %d, %v", name, got, ok)
		}
	}
	for name, want := range map[string][]string{"s": {"a"}, "l": {"a", "b"}} {
		if got, ok := c.Texts(name); !ok || !cmp.Equal(got, want) {
			t.Errorf("%s is the texts %q, %v", name, got, ok)
		}
	}
	if got, ok := c.Texts("e"); !ok || len(got) > 0 {
		t.Errorf("an empty list is %q, %v", got, ok)
	}
	for _, name := range []string{"m", "i", "o", "n", "x"} {
		if got, ok := c.Texts(name); ok {
			t.Errorf("%s is the texts %q", name, got)
		}
	}
	if !c.Has("n") || c.Has("x") || (*Claims)(nil).Has("s") {
		t.Error("Has")
	}
	if _, ok := (*Claims)(nil).Text("s"); ok {
		t.Error("nil has a member")
	}
	for _, bad := range []string{``, `[]`, `1`, `{"a": 1, "a": 2}`, `{} x`, "{\"a\": \"\xff\"}", `{"a": 1e999}`, strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)} {
		if _, err := NewClaims([]byte(bad)); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
}

// What rules see of who calls. They are decided once a request, before any backend is chosen.
func TestCallers(t *testing.T) {
	anonymous := request()
	token := request()
	token.JWT = claimsOf(t, `{"iss": "i", "sub": "alice", "scope": "a b", "groups": ["staff"], "nested": {"x": [1]}, "level": 3}`)
	key := request()
	key.APIKey = claimsOf(t, `{"id": "keys/one", "team": "sales"}`)
	user := request()
	user.User = "bob"
	for _, tt := range []struct {
		expression string
		want       [4]bool // anonymous, token, key, user
	}{
		{`has(jwt.sub)`, [4]bool{false, true, false, false}},
		{`jwt.sub == 'alice'`, [4]bool{false, true, false, false}},
		{`jwt.sub != 'mallory'`, [4]bool{false, true, false, false}},
		{`'staff' in jwt.groups && jwt.level >= 3`, [4]bool{false, true, false, false}},
		{`jwt.nested.x[0] == 1`, [4]bool{false, true, false, false}},
		{`jwt[?'scope'].orValue('').split(' ').exists(s, s == 'b')`, [4]bool{false, true, false, false}},
		{`jwt.?email.orValue('none') == 'none'`, [4]bool{true, true, true, true}},
		{`apiKey.team == 'sales' && apiKey.id == 'keys/one'`, [4]bool{false, false, true, false}},
		{`basicAuth.username == 'bob'`, [4]bool{false, false, false, true}},
		{`has(basicAuth.username)`, [4]bool{false, false, false, true}},
		{`has(jwt.sub) || has(apiKey.id) || has(basicAuth.username)`, [4]bool{false, true, true, true}},
		{`jwt.size() == 0 && apiKey.size() == 0`, [4]bool{true, false, false, true}},
	} {
		for i, req := range []*Request{anonymous, token, key, user} {
			_, err := New(Options{Rules: []RuleSet{allow(t, tt.expression)}}).Admit(context.Background(), req)
			if (err == nil) != tt.want[i] {
				t.Errorf("%s of %d: %v", tt.expression, i, err)
			}
			// What an allow rule can't decide, a deny rule decides against.
			e := compile(t, tt.expression)
			_, err = New(Options{Rules: []RuleSet{{Source: "p", Action: Deny, Expressions: e}}}).Admit(context.Background(), req)
			if err == nil && tt.want[i] {
				t.Errorf("denying %s of %d does not deny", tt.expression, i)
			}
		}
	}
	for expression, want := range map[string][3]bool{
		`jwt.sub == 'a'`: {true, false, false}, `apiKey.id == 'a'`: {false, true, false}, `has(basicAuth.username)`: {false, false, true}, `mcp.tool.name == 'jwt'`: {},
	} {
		e := compile(t, expression)[0]
		if got := [3]bool{e.SpeaksOfJWT(), e.SpeaksOfAPIKey(), e.SpeaksOfBasicAuth()}; got != want {
			t.Errorf("%s: %v", expression, got)
		}
	}
}
