package authn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpgw/mcpgw/policy"
)

// A keyServer is an http.RoundTripper that answers with what it is told to, and counts.
type keyServer struct {
	mu     sync.Mutex
	asked  int
	answer func(*http.Request) (*http.Response, error)
}

func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked++
	answer := s.answer
	s.mu.Unlock()
	return answer(r)
}

func (s *keyServer) set(answer func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *keyServer) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func responding(status int, body string, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func down(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// remote runs keys that are fetched every 5 minutes of the bubble's time.
func remote(t *testing.T, s *keyServer, log io.Writer) *RemoteKeys {
	k := NewRemoteKeys(RemoteOptions{
		URL: "https://idp.example.com/jwks", Issuer: issuer, Transport: s, Every: 5 * time.Minute,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return k
}

func checker(k Keys) *JWT {
	return &JWT{Providers: []Provider{{Issuer: issuer, Audiences: []string{audience}, Keys: k}}, Memory: NewMemory(), Now: func() time.Time { return now }}
}

// The first request of a process that has just begun waits for the keys, for a time.
func TestRemoteFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		keys := responding(http.StatusOK, jwks(t, map[string]string{"k": "ed"}))
		s := &keyServer{answer: func(r *http.Request) (*http.Response, error) {
			<-release
			return keys(r)
		}}
		j := checker(remote(t, s, io.Discard))
		token := sign(t, "ed", "k", jose.EdDSA, claims(nil), nil)
		go func() {
			time.Sleep(patience / 2)
			close(release)
		}()
		if code, _, cause := checked(t, j, bearer(token)); code != "ok" {
			t.Error(code, cause)
		}
	})
}

// Before there are keys, nobody gets in, whatever the mode, and it is said that this will pass; a
// request without token is told so at once.
func TestRemoteNeverFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{answer: down}
		var log bytes.Buffer
		k := remote(t, s, &log)
		synctest.Wait()
		token := sign(t, "ed", "k", jose.EdDSA, claims(nil), nil)
		for mode, want := range map[Mode][2]string{Strict: {"unverifiable", "unauthenticated"}, Optional: {"unverifiable", "ok"}, Permissive: {"ok", "ok"}} {
			j := checker(k)
			j.Mode = mode
			req := bearer(token)
			if code, _, _ := checked(t, j, req); code != want[0] || req.Principal != "anonymous" {
				t.Errorf("mode %d with a token: %s, principal %s", mode, code, req.Principal)
			}
			if code, _, _ := checked(t, j, request()); code != want[1] {
				t.Errorf("mode %d without: %s", mode, code)
			}
		}
		time.Sleep(time.Hour)
		if n := s.requests(); n < 10 || n > 100 {
			t.Errorf("a server that is down for an hour gets %d requests", n)
		}
		if n := strings.Count(log.String(), "can't be fetched"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
		s.set(responding(http.StatusOK, jwks(t, map[string]string{"k": "ed"})))
		time.Sleep(lastRetry)
		synctest.Wait()
		if code, _, cause := checked(t, checker(k), bearer(token)); code != "ok" {
			t.Error(code, cause)
		}
		if !strings.Contains(log.String(), "fetched again") {
			t.Errorf("the end of it is not said:\n%s", log.String())
		}
	})
}

// The last good keys stay, whatever the server does later.
func TestRemoteLastGood(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"down":            down,
		"an error":        responding(http.StatusInternalServerError, "no"),
		"no JSON":         responding(http.StatusOK, "<html>"),
		"no keys":         responding(http.StatusOK, `{"keys": []}`),
		"a private key":   responding(http.StatusOK, `{"keys": [{"kty":"oct","k":"aHVudGVyMg"}]}`),
		"too long":        responding(http.StatusOK, `{"keys": [], "x": "`+strings.Repeat("x", maxKeySet)+`"}`),
		"elsewhere":       responding(http.StatusFound, "", "Location", "https://evil.example.com/jwks"),
		"elsewhere there": responding(http.StatusFound, "", "Location", "/other"),
		"nothing": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &keyServer{answer: responding(http.StatusOK, jwks(t, map[string]string{"k": "ed"}))}
				var log bytes.Buffer
				j := checker(remote(t, s, &log))
				synctest.Wait()
				token := sign(t, "ed", "k", jose.EdDSA, claims(nil), nil)
				s.set(answer)
				before := s.requests()
				time.Sleep(24 * time.Hour)
				if s.requests() == before {
					t.Fatal("the server is not asked")
				}
				if code, _, cause := checked(t, j, bearer(token)); code != "ok" {
					t.Error(code, cause)
				}
				if n := strings.Count(log.String(), "the last good ones stay in use"); n != 1 {
					t.Errorf("said %d times:\n%s", n, log.String())
				}
			})
		})
	}
}

// A key set at the limit is taken.
func TestRemoteLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := jwks(t, map[string]string{"k": "ed"})
		s := &keyServer{answer: responding(http.StatusOK, set+strings.Repeat(" ", maxKeySet-len(set)))}
		k := remote(t, s, io.Discard)
		synctest.Wait()
		if k.Current() == nil {
			t.Error("it is not")
		}
	})
}

// Keys that are exchanged: the new one works at once, with one fetch however many ask for it, and the old one
// no longer once the set without it is known.
func TestRemoteRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{answer: responding(http.StatusOK, jwks(t, map[string]string{"old": "ed"}))}
		j := checker(remote(t, s, io.Discard))
		synctest.Wait()
		before := sign(t, "ed", "old", jose.EdDSA, claims(nil), nil)
		after := sign(t, "p256", "new", jose.ES256, claims(nil), nil)
		if code, _, cause := checked(t, j, bearer(before)); code != "ok" {
			t.Fatal(code, cause)
		}
		time.Sleep(pause)
		s.set(responding(http.StatusOK, jwks(t, map[string]string{"new": "p256"})))
		asked := s.requests()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if code, _, cause := checked(t, j, bearer(after)); code != "ok" {
					t.Error(code, cause)
				}
			})
		}
		all.Wait()
		if n := s.requests() - asked; n != 1 {
			t.Errorf("%d fetches", n)
		}
		if code, challenge, _ := checked(t, j, bearer(before)); code != "unauthenticated" || !strings.Contains(challenge, "a key that the issuer does not have") {
			t.Error(code, challenge)
		}
	})
}

// Tokens with made-up key ids are no load on the issuer, and wait for nothing.
func TestRemoteUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{answer: responding(http.StatusOK, jwks(t, map[string]string{"k": "ed"}))}
		j := checker(remote(t, s, io.Discard))
		synctest.Wait()
		began := time.Now()
		for i := range 1000 {
			token := sign(t, "p256", strings.Repeat("x", i%7+2), jose.ES256, claims(nil), nil)
			if code, _, _ := checked(t, j, bearer(token)); code != "unauthenticated" {
				t.Fatal(code)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := s.requests(); n > 2+int(time.Since(began)/pause) {
			t.Errorf("%d fetches in %s", n, time.Since(began))
		}
	})
}

// A request that ends does not wait.
func TestRemoteCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{answer: func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}}
		k := remote(t, s, io.Discard)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		began := time.Now()
		var req *policy.Request = bearer(sign(t, "ed", "k", jose.EdDSA, claims(nil), nil))
		if err := checker(k).Check(ctx, req); err == nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if k.Refresh(context.Background(), nil) != nil || time.Since(began) != patience {
			t.Errorf("a request waits %s for keys", time.Since(began))
		}
	})
}
