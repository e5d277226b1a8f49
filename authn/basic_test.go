package authn

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func basicHeader(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func hashed(t *testing.T, password string, cost int) string {
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// Each form that htpasswd writes, of the password "password"; the others are refused, since one that is not
// understood would be taken for the password itself.
func TestParseUser(t *testing.T) {
	for _, tt := range []struct{ name, line, err string }{
		{"bcrypt", "u:" + hashed(t, "password", bcrypt.MinCost), ""},
		{"bcrypt of PHP", "u:" + strings.Replace(hashed(t, "password", bcrypt.MinCost), "$2a$", "$2y$", 1), ""},
		{"apr1", "u:$apr1$QJ0w9pkc$K.0bRiQcU.H6odikvQDpL/", ""},
		{"SHA-1", "u:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", ""},
		{"no colon", "hunter2", "it is not USER:HASH"},
		{"no user", ":hunter2", "it is not USER:HASH"},
		{"plain", "u:hunter2", "the hash is of no kind that is used"},
		{"crypt", "u:rqXexS6ZhobKA", "the hash is of no kind that is used"},
		{"SHA-512 crypt", "u:$6$rounds=999999999$salt$hunter2", "the hash is of no kind that is used"},
		{"broken SHA-1", "u:{SHA}hunter2", "the hash is malformed"},
		{"broken bcrypt", "u:$2y$hunter2", "the hash is malformed"},
		{"broken apr1", "u:$apr1$hunter2", "the hash is malformed"},
		{"work for long", "u:$2y$13$" + strings.Repeat("a", 53), "the hash has the cost 13, and at most 12 is used"},
		{"a long name", strings.Repeat("u", maxUser+1) + ":{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "the user is longer than 255 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := ParseUser(tt.line)
			switch {
			case tt.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter") {
					t.Errorf("%v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case !u.hash.MatchesPassword("password") || u.hash.MatchesPassword("Password") || u.hash.MatchesPassword(""):
				t.Error("it matches another password, or not its own")
			}
		})
	}
}

func TestParseUsers(t *testing.T) {
	const sha = ":{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
	users, ignored := ParseUsers("# a file\n\na" + sha + "\r\n  b" + sha + "\n")
	if len(ignored) > 0 || len(users) != 2 || users[1].Name != "b" {
		t.Errorf("%v %v", users, ignored)
	}
	users, ignored = ParseUsers("a" + sha + "\nb:hunter2\nc" + sha)
	if len(users) != 2 || len(ignored) != 1 || !strings.HasPrefix(ignored[0].Error(), "line 2: ") || strings.Contains(ignored[0].Error(), "hunter") {
		t.Error(users, ignored)
	}
	if users, ignored := ParseUsers("# nobody\n"); len(users)+len(ignored) > 0 {
		t.Error(users, ignored)
	}
	var file strings.Builder
	for i := range maxUsers {
		fmt.Fprintf(&file, "u%d%s\n", i, sha)
	}
	if users, ignored := ParseUsers(file.String()); len(ignored) > 0 || len(users) != maxUsers {
		t.Errorf("%d users: %v", len(users), ignored)
	}
	if users, ignored := ParseUsers(file.String() + "more" + sha); len(ignored) != 1 || len(users) != maxUsers {
		t.Errorf("%d users: %v", len(users), ignored)
	}
}

// users are those of an htpasswd file.
func usersOf(t testing.TB, file string) []User {
	t.Helper()
	users, ignored := ParseUsers(file)
	if len(ignored) > 0 {
		t.Fatal(ignored)
	}
	return users
}

func TestBasic(t *testing.T) {
	users := usersOf(t, "alice:"+hashed(t, "password", bcrypt.MinCost)+"\nbob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nalice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
	long := strings.Repeat("p", maxPassword+1)
	for _, tt := range []struct {
		name, header string
		modes        [3]string
		principal    string
	}{
		{"bcrypt", basicHeader("alice", "password"), [3]string{"ok", "ok", "ok"}, "basic:ns/users alice"},
		{"SHA-1", basicHeader("bob", "password"), [3]string{"ok", "ok", "ok"}, "basic:ns/users bob"},
		{"small letters", strings.Replace(basicHeader("bob", "password"), "Basic", "basic", 1), [3]string{"ok", "ok", "ok"}, "basic:ns/users bob"},
		{"another password", basicHeader("alice", "Password"), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"nobody", basicHeader("mallory", "password"), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"the hash", basicHeader("bob", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"empty", basicHeader("", ""), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"no base64", "Basic hunter2!", [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"no colon", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice")), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"too long", basicHeader("alice", long), [3]string{"unauthenticated", "unauthenticated", "ok"}, "anonymous"},
		{"none", "", [3]string{"unauthenticated", "ok", "ok"}, "anonymous"},
		{"another scheme", "Bearer x", [3]string{"unauthenticated", "ok", "ok"}, "anonymous"},
	} {
		for mode, want := range tt.modes {
			b := NewBasic(Mode(mode), "mcpgw", "ns/users", users, NewMemory(), nil)
			for range 2 { // what is remembered is decided alike
				req := request()
				if tt.header != "" {
					req = request("Authorization", tt.header)
				}
				code, challenge, cause := checked(t, b, req)
				if code != want || req.Principal != tt.principal {
					t.Errorf("%s in mode %d: %s (%v), principal %s", tt.name, mode, code, cause, req.Principal)
				}
				if code != "ok" && challenge != `Basic realm="mcpgw", charset="UTF-8"` {
					t.Errorf("challenge %s", challenge)
				}
			}
		}
	}
}

// What was verified is remembered for that password and that hash alone.
func TestBasicRemembers(t *testing.T) {
	memory := NewMemory()
	check := func(line, password string) string {
		users := usersOf(t, line)
		code, _, _ := checked(t, NewBasic(Strict, "r", "ns/users", users, memory, nil), request("Authorization", basicHeader("alice", password)))
		return code
	}
	before, after := "alice:"+hashed(t, "one", bcrypt.MinCost), "alice:"+hashed(t, "two", bcrypt.MinCost)
	for _, tt := range []struct{ line, password, want string }{
		{before, "one", "ok"}, {before, "one", "ok"}, {before, "two", "unauthenticated"},
		{after, "one", "unauthenticated"}, {after, "two", "ok"},
	} {
		if code := check(tt.line, tt.password); code != tt.want {
			t.Errorf("%s: %s, want %s", tt.password, code, tt.want)
		}
	}
	if n := memory.passwords.Len(); n != 2 {
		t.Errorf("%d passwords are remembered", n)
	}
}

// More passwords than can be checked in time are answered so, and those that are known pass.
func TestBasicBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		users := usersOf(t, "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
		b := NewBasic(Strict, "r", "ns/users", users, memory, nil)
		good := request("Authorization", basicHeader("bob", "password"))
		if code, _, _ := checked(t, b, good); code != "ok" {
			t.Fatal(code)
		}
		for memory.turns.TryAcquire(1) {
			continue
		}
		began := time.Now()
		if code, _, _ := checked(t, b, request("Authorization", basicHeader("bob", "other"))); code != "overloaded" || time.Since(began) != patience {
			t.Errorf("%s after %s", code, time.Since(began))
		}
		if code, _, _ := checked(t, b, request("Authorization", basicHeader("bob", "password"))); code != "ok" {
			t.Errorf("who is known: %s", code)
		}
	})
}

// No error says anything of the credential.
func TestBasicSecrets(t *testing.T) {
	users := usersOf(t, "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
	b := NewBasic(Strict, "r", "ns/users", users, NewMemory(), nil)
	for _, header := range []string{basicHeader("bob", "hunter2"), "Basic hunter2", basicHeader("hunter2", "x")} {
		if err := b.Check(context.Background(), request("Authorization", header)); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Error(err)
		}
	}
}

func FuzzBasic(f *testing.F) {
	users := usersOf(f, "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
	b := NewBasic(Strict, "r", "ns/users", users, NewMemory(), nil)
	f.Add("Basic Ym9iOng=")
	f.Add("Basic ")
	f.Fuzz(func(t *testing.T, header string) {
		req := request()
		req.HTTP.Header["Authorization"] = []string{header}
		if err := b.Check(context.Background(), req); err == nil {
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(header[len("Basic"):]))
			if string(raw) != "bob:password" {
				t.Errorf("%q gets in as %s", header, req.Principal)
			}
		}
	})
}
