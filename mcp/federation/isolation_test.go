package federation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/policy"
)

// What was sealed for a caller is that caller's after a change of keys, too, and
// nobody's once its key is gone: sessions and cursors, where headers of the client
// reach the targets.
func TestIsolationSurvivesKeys(t *testing.T) {
	s := newServer(t, "s", true, nil)
	s.echo("x", "y")
	g := newGateway(t, Config{Targets: targets(s), ForwardHeaders: []string{"X-User"}, PageSize: 1})
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keys := func(keys ...[]byte) {
		t.Helper()
		if err := g.hub.opts.Sealer.SetKeys(keys...); err != nil {
			t.Fatal(err)
		}
	}
	keys(a)
	sid := g.initialize("2025-11-25", "X-User", "ann")
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	_, first := g.modern("tools/list", "", "", "X-User", "ann")
	cursor := regexp.MustCompile(`"nextCursor":"([^"]*)"`).FindStringSubmatch(first)
	if cursor == nil {
		t.Fatal(first)
	}
	for _, tt := range []struct {
		name string
		keys [][]byte
		user string
		ok   bool
	}{
		{"the key", [][]byte{a}, "ann", true},
		{"another caller", [][]byte{a}, "bob", false},
		{"a new key", [][]byte{b, a}, "ann", true},
		{"a new key, another caller", [][]byte{b, a}, "bob", false},
		{"without the key", [][]byte{b}, "ann", false},
	} {
		keys(tt.keys...)
		if status, body, _ := g.post(list, "Mcp-Session-Id", sid, "X-User", tt.user); (status == 200) != tt.ok {
			t.Errorf("%s, session: %d %s", tt.name, status, body)
		}
		if _, body := g.modern("tools/list", "", `"cursor":"`+cursor[1]+`"`, "X-User", tt.user); strings.Contains(body, "s_y") != tt.ok {
			t.Errorf("%s, cursor: %s", tt.name, body)
		}
	}
}

// The isolation key tells nothing of a credential to who has no session key.
func TestIsolationIsKeyed(t *testing.T) {
	g := newGateway(t, Config{ForwardHeaders: []string{"X-User"}})
	key := func(user string) string {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url, http.NoBody)
		r.Header.Set("X-User", user)
		ctx, err := policy.New(policy.Options{}).Admit(t.Context(), &policy.Request{HTTP: r, Client: policy.Client{Principal: "p"}})
		if err != nil {
			t.Fatal(err)
		}
		r = r.WithContext(ctx)
		f := g.backend.forwardOf(r)
		return g.backend.isolationOf(r, &f, &protocol.Message{})
	}
	ann := key("ann")
	if ann != key("ann") || ann == key("bob") || !strings.HasPrefix(ann, "p\x00") {
		t.Errorf("%q", ann)
	}
	plain := sha256.Sum256([]byte("ann"))
	if strings.Contains(ann, "ann") || strings.Contains(ann, hex.EncodeToString(plain[:])) {
		t.Errorf("%q", ann)
	}
	if err := g.hub.opts.Sealer.SetKeys(bytes.Repeat([]byte{3}, 32)); err != nil {
		t.Fatal(err)
	}
	if ann == key("ann") {
		t.Error("the isolation key does not depend on the session key")
	}
}
