package authn

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/policy"
)

func TestParseAPIKey(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		key         string
		hidden      bool
		err         string
	}{
		{name: "bare", value: "k-123\n", key: "k-123"},
		{name: "an object", value: `{"key": "k-456", "metadata": {"team": "a"}}`, key: "k-456"},
		{name: "an object without metadata", value: ` {"key": "k-789"}`, key: "k-789"},
		{name: "an id of its own", value: `{"key": "k", "metadata": {"id": "admin"}}`, key: "k", hidden: true},
		{name: "at the limit", value: strings.Repeat("k", maxCredential), key: strings.Repeat("k", maxCredential)},
		{name: "empty", value: " \n", err: "the key is empty"},
		{name: "an empty key", value: `{"key": ""}`, err: "the key is empty"},
		{name: "over the limit", value: strings.Repeat("k", maxCredential+1), err: "the key is longer than 16384 bytes"},
		{name: "two lines", value: "hunter2\nhunter3", err: "the key holds control characters, which no header can"},
		{name: "broken JSON", value: `{"key": "hunter2"`, err: "it begins like JSON"},
		{name: "an unknown member", value: `{"key": "hunter2", "meta": {}}`, err: "it begins like JSON"},
		{name: "two keys", value: `{"key": "hunter2", "key": "hunter3"}`, err: "it begins like JSON"},
		{name: "metadata that is a list", value: `{"key": "hunter2", "metadata": []}`, err: "it begins like JSON"},
		{name: "deep metadata", value: `{"key": "hunter2", "metadata": {"x": ` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`, err: "nested deeper"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, hidden, err := ParseAPIKey("secret/entry", []byte(tt.value))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter") {
					t.Fatalf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || hidden != tt.hidden || k.key.Reveal() != tt.key {
				t.Errorf("%q %v %v", k.key.Reveal(), hidden, err)
			}
			if id, _ := k.claims.Text("id"); id != "secret/entry" {
				t.Errorf("the id is %q", id)
			}
		})
	}
}

func parsed(t *testing.T, entries ...string) (keys []APIKey) {
	for i := 0; i < len(entries); i += 2 {
		k, _, err := ParseAPIKey(entries[i], []byte(entries[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys
}

func TestAPIKeys(t *testing.T) {
	keys := parsed(t, "s/alice", "k-alice", "s/bob", `{"key": "k-bob", "metadata": {"team": "sales"}}`, "s/twin", "k-alice")
	header := Location{Header: "X-Api-Key"}
	c, twice := NewAPIKeys(Strict, header, "ns", keys, nil)
	if !cmp.Equal(twice, []string{"s/twin"}) {
		t.Errorf("twice: %v", twice)
	}
	req := request("X-Api-Key", "k-alice")
	if code, _, _ := checked(t, c, req); code != "ok" || req.Principal != "apikey:ns/s/alice" || !cmp.Equal(req.Consumed, []string{"X-Api-Key"}) {
		t.Error(code, req.Principal, req.Consumed)
	}
	req = request("X-Api-Key", " k-bob ")
	if code, _, _ := checked(t, c, req); code != "ok" {
		t.Error(code)
	}
	if team, _ := req.APIKey.Text("team"); team != "sales" {
		t.Errorf("team %q", team)
	}
	for name, tt := range map[string]struct {
		headers []string
		modes   [3]string
	}{
		"none":               {nil, [3]string{"unauthenticated", "ok", "ok"}},
		"another header":     {[]string{"Authorization", "Bearer k-alice"}, [3]string{"unauthenticated", "ok", "ok"}},
		"unknown":            {[]string{"X-Api-Key", "k-mallory"}, [3]string{"unauthenticated", "unauthenticated", "ok"}},
		"empty":              {[]string{"X-Api-Key", ""}, [3]string{"unauthenticated", "unauthenticated", "ok"}},
		"two":                {[]string{"X-Api-Key", "k-alice", "X-Api-Key", "k-bob"}, [3]string{"unauthenticated", "unauthenticated", "ok"}},
		"one that begins so": {[]string{"X-Api-Key", "k-alic"}, [3]string{"unauthenticated", "unauthenticated", "ok"}},
	} {
		for mode, want := range tt.modes {
			c, _ := NewAPIKeys(Mode(mode), header, "ns", keys, nil)
			req := request(tt.headers...)
			code, challenge, _ := checked(t, c, req)
			if code != want || req.Principal != "anonymous" || req.APIKey != nil {
				t.Errorf("%s in mode %d: %s, principal %s", name, mode, code, req.Principal)
			}
			if code != "ok" && challenge != `ApiKey header="x-api-key"` {
				t.Errorf("challenge %s", challenge)
			}
		}
	}
}

// By default a key is a bearer token.
func TestAPIKeyDefaults(t *testing.T) {
	c, _ := NewAPIKeys(Strict, Location{}, "ns", parsed(t, "s/a", "k"), nil)
	if code, _, _ := checked(t, c, request("Authorization", "Bearer k")); code != "ok" {
		t.Error(code)
	}
	if code, challenge, _ := checked(t, c, request("Authorization", "k")); code != "unauthenticated" || challenge != "Bearer" {
		t.Error(code, challenge)
	}
}

// Two ways to authenticate make one principal of both.
func TestTwoCredentials(t *testing.T) {
	keys, _ := NewAPIKeys(Strict, Location{Header: "X-Api-Key"}, "ns", parsed(t, "s/a", "k"), nil)
	users := usersOf(t, "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
	basic := NewBasic(Strict, "r", "ns/users", users, NewMemory(), nil)
	req := request("X-Api-Key", "k", "Authorization", basicHeader("alice", "password"))
	for _, c := range []policy.Check{keys, basic} {
		if code, _, cause := checked(t, c, req); code != "ok" {
			t.Fatal(code, cause)
		}
	}
	if want := "apikey:ns/s/a basic:ns/users alice"; req.Principal != want || !cmp.Equal(req.Consumed, []string{"X-Api-Key", "Authorization"}) {
		t.Errorf("%s %v", req.Principal, req.Consumed)
	}
}

func TestMissing(t *testing.T) {
	if code, _, _ := checked(t, Missing{}, request("X-Api-Key", "k")); code != "unverifiable" {
		t.Error(code)
	}
}
