package session

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func sessions(t testing.TB, change ...func(*SessionsOptions)) *Sessions {
	t.Helper()
	opts := SessionsOptions{Sealer: sealer(t, key(1)), Home: "10.0.0.1:9000"}
	for _, c := range change {
		c(&opts)
	}
	return NewSessions(opts)
}

func create(t testing.TB, s *Sessions, c Client, legs ...*Leg) *Session {
	t.Helper()
	sess, err := s.Create("default/b", c, legs)
	if err != nil {
		t.Fatal(err)
	}
	return sess
}

// countLegs returns how many legs there are.
func countLegs(legs []byte) int {
	if len(legs) == 0 {
		return 0
	}
	return int(legs[0])
}

// A session goes on in another process with the same key, with the sessions of the
// targets that initialize opened.
func TestSessionOnAnotherReplica(t *testing.T) {
	f1, f2 := &fake{t: t}, &fake{t: t, modern: true}
	url1, url2 := serve(t, f1).URL, serve(t, f2).URL
	here1, here2 := target(t, url1), target(t, url2)
	there1, there2 := target(t, url1), target(t, url2)
	sess := create(t, sessions(t), client("a"), open(t, here1, client("a")), open(t, here2, client("a")))
	if n := len(sess.ID()); n > 600 {
		t.Errorf("the id has %d bytes", n)
	}
	for _, b := range []byte(sess.ID()) {
		if b < 0x21 || b > 0x7e {
			t.Fatalf("byte %q in the id", b)
		}
	}
	other := sessions(t, func(o *SessionsOptions) { o.Home = "10.0.0.2:9000" })
	again, ok := other.Open(sess.ID(), "default/b", "a")
	if !ok {
		t.Fatal("not opened")
	}
	if d := cmp.Diff(sess.Client(), again.Client()); d != "" {
		t.Error(d)
	}
	if again.Home() != "10.0.0.1:9000" {
		t.Errorf("home is %q", again.Home())
	}
	before := f1.count("initialize")
	for _, tg := range []*Target{there1, there2} {
		l, err := again.Leg(t.Context(), tg, Forward{})
		if err != nil {
			t.Fatal(err)
		}
		if got := call(t, l, "x", ""); got != "x" {
			t.Errorf("got %q", got)
		}
	}
	if n := f1.count("initialize") - before; n != 0 {
		t.Errorf("initialised %d times more", n)
	}
	// Ending it there ends the sessions of its targets.
	again.End(t.Context(), there1, there2)
	if n := f1.count("DELETE"); n != 1 {
		t.Errorf("%d sessions were ended", n)
	}
	if _, ok := other.Open(sess.ID(), "default/b", "a"); ok {
		t.Error("an ended session opens")
	}
	<-again.Done()
	if _, err := again.Leg(t.Context(), there1, Forward{}); fault.Of(err).Code != fault.NotFound {
		t.Errorf("a leg of an ended session: %v", err)
	}
}

func TestSessionIsBound(t *testing.T) {
	s := sessions(t)
	id := create(t, s, client("a")).ID()
	for _, all := range []*Sessions{s, sessions(t)} { // opened, and sealed
		if _, ok := all.Open(id, "default/b", "a"); !ok {
			t.Error("not opened")
		}
		if _, ok := all.Open(id, "default/other", "a"); ok {
			t.Error("opened for another backend")
		}
		if _, ok := all.Open(id, "default/b", "b"); ok {
			t.Error("opened for another principal")
		}
		if _, ok := all.Open(id, "default/ba", ""); ok {
			t.Error("opened with the border moved")
		}
		if _, ok := all.Open(id[:len(id)-2], "default/b", "a"); ok {
			t.Error("opened though cut")
		}
		if _, ok := all.Open(strings.Repeat("A", maxToken+1), "default/b", "a"); ok {
			t.Error("opened though too long")
		}
	}
	if _, ok := sessions(t, func(o *SessionsOptions) { o.Sealer = sealer(t) }).Open(id, "default/b", "a"); ok {
		t.Error("opened with another key")
	}
}

func TestSessionExpires(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	clock := func(o *SessionsOptions) {
		o.Now = func() time.Time { return now }
		o.Lifetime = time.Hour
	}
	s := sessions(t, clock)
	sealed, live := create(t, s, client("a")), create(t, s, client("a"))
	live.Live(func() any { return 1 })
	now = now.Add(time.Hour - time.Second)
	for _, sess := range []*Session{sealed, live} {
		if _, ok := s.Open(sess.ID(), "default/b", "a"); !ok {
			t.Error("expired too early")
		}
	}
	now = now.Add(time.Second)
	for _, sess := range []*Session{sealed, live} {
		if _, ok := s.Open(sess.ID(), "default/b", "a"); ok {
			t.Error("opened after it expired")
		}
		if _, ok := sessions(t, clock).Open(sess.ID(), "default/b", "a"); ok {
			t.Error("opened elsewhere after it expired")
		}
	}
	now = now.Add(2 * sweepEvery)
	s.Open("x", "default/b", "a")
	<-live.Done()
	if s.live.Len() != 0 {
		t.Error("an expired session is still held")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := sessions(t, func(o *SessionsOptions) { o.Cache, o.Live = 3, 2 })
	var all []*Session
	for range 5 {
		all = append(all, create(t, s, client("a")))
	}
	for _, sess := range all {
		if _, ok := s.Glance(sess.ID(), "default/b", "a"); !ok {
			t.Error("not known")
		}
	}
	if n := s.Count(); n != 0 {
		t.Errorf("%d are held that nobody used", n)
	}
	for _, sess := range all {
		if _, ok := s.Open(sess.ID(), "default/b", "a"); !ok {
			t.Error("not opened")
		}
	}
	if n := s.Count(); n != 3 {
		t.Errorf("%d are held", n)
	}
	// One that fell out of the cache is opened again.
	if sess, ok := s.Open(all[0].ID(), "default/b", "a"); !ok || sess == all[0] {
		t.Error("not opened anew")
	}
	parts := 0
	for _, sess := range all[:3] {
		sess, ok := s.Open(sess.ID(), "default/b", "a")
		if !ok {
			t.Fatal("not opened")
		}
		if got := sess.Live(func() any { parts++; return parts }); got != parts || sess.Peek() != parts {
			t.Errorf("part is %v", got)
		}
	}
	if s.live.Len() != 2 {
		t.Errorf("%d with parts are held", s.live.Len())
	}
	// What was only here is gone with the first, so the client has to start anew.
	if _, ok := s.Open(all[0].ID(), "default/b", "a"); ok {
		t.Error("opened without its parts")
	}
	if sess, ok := s.Open(all[1].ID(), "default/b", "a"); !ok || sess.Peek() != 2 {
		t.Error("the second lost its part")
	}
	// Ended sessions are remembered, so many of them.
	for range 2*endedFactor + 5 {
		create(t, s, client("a")).End(t.Context())
	}
	if n := s.ended.Len(); n != 2*endedFactor {
		t.Errorf("%d ended sessions are remembered", n)
	}
}

// A leg that was made or renewed after initialize is in this process only.
func TestSessionKeepsNewLegs(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL)
	s := sessions(t, func(o *SessionsOptions) { o.Cache = 1 })
	sess := create(t, s, client("a"))
	create(t, s, client("a")) // pushes it out of the cache
	sess, _ = s.Open(sess.ID(), "default/b", "a")
	var wg sync.WaitGroup
	legs := make([]*Leg, 8)
	for i := range legs {
		wg.Go(func() {
			var err error
			if legs[i], err = sess.Leg(t.Context(), tg, Forward{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range legs {
		if l != legs[0] {
			t.Error("callers got different legs")
		}
	}
	if n := f.count("initialize"); n != 1 {
		t.Errorf("initialised %d times", n)
	}
	create(t, s, client("a"))
	create(t, s, client("a"))
	again, ok := s.Open(sess.ID(), "default/b", "a")
	if !ok || again != sess {
		t.Fatal("the session was not kept")
	}
	if l, err := again.Leg(t.Context(), tg, Forward{}); err != nil || l != legs[0] {
		t.Errorf("got another leg; %v", err)
	}
	again.End(t.Context())
	if n := f.count("DELETE"); n != 1 {
		t.Errorf("%d sessions were ended", n)
	}
}

func TestSessionKeepsRenewedLegs(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL)
	s := sessions(t, func(o *SessionsOptions) { o.Cache = 1 })
	sess := create(t, s, client("a"), open(t, tg, client("a")))
	if s.live.Len() != 0 {
		t.Error("kept without need")
	}
	f.forget()
	l, err := sess.Leg(t.Context(), tg, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	call(t, l, "x", "")
	if s.live.Len() != 1 {
		t.Error("not kept though its leg was renewed")
	}
}

// A target that was closed and made anew from the same configuration serves the
// session on.
func TestSessionMovesToTheNewTarget(t *testing.T) {
	f := &fake{t: t}
	url := serve(t, f).URL
	one, two := target(t, url), target(t, url)
	sess := create(t, sessions(t), client("a"), open(t, one, client("a")))
	one.Close()
	l, err := sess.Leg(t.Context(), two, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	if got := call(t, l, "x", ""); got != "x" || l.Target() != two {
		t.Errorf("got %q from %p", got, l.Target())
	}
}

// What does not fit into a token stays with the process that made it.
func TestSessionThatDoesNotFit(t *testing.T) {
	long := strings.Repeat("s", 2000)
	var legs []*Leg
	for i := range 4 {
		f := &fake{t: t}
		f.before = func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) bool {
			if m == nil || m.Method != "initialize" {
				return m != nil && m.Method == "notifications/initialized"
			}
			w.Header().Set("Mcp-Session-Id", fmt.Sprint(long, i))
			result(w, m, `{"protocolVersion":"2025-06-18","capabilities":{}}`)
			return true
		}
		l, err := target(t, serve(t, f).URL).Open(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		legs = append(legs, l)
	}
	s := sessions(t)
	sess := create(t, s, client("a"), legs...)
	if n := len(sess.ID()); n > maxToken {
		t.Errorf("the id has %d bytes", n)
	}
	if s.live.Len() != 1 {
		t.Error("the session is not kept")
	}
	if again, ok := sessions(t).Open(sess.ID(), "default/b", "a"); !ok || countLegs(again.sealed) != 1 {
		t.Error("elsewhere it does not have the one leg that fits")
	}

	c := client("a")
	c.Info = []byte(`{"name":"` + strings.Repeat("n", 5000) + `"}`)
	sess = create(t, s, c)
	if n := len(sess.ID()); n > maxToken {
		t.Errorf("the id has %d bytes", n)
	}
	if again, ok := s.Open(sess.ID(), "default/b", "a"); !ok || !bytes.Equal(again.Client().Info, c.Info) {
		t.Error("not opened at home")
	}
	if _, ok := sessions(t).Open(sess.ID(), "default/b", "a"); ok {
		t.Error("opened elsewhere without what describes the client")
	}
	if home, ok := sessions(t).Home(sess.ID(), "default/b", "a"); !ok || home != "10.0.0.1:9000" {
		t.Errorf("home is %q, %t", home, ok)
	}
	if _, ok := sessions(t).Home(sess.ID(), "default/b", "b"); ok {
		t.Error("another principal learns the home")
	}
}

func TestTokenRoundTrip(t *testing.T) {
	tok := &token{
		expires: time.Unix(1_800_000_000, 0), home: "h:1", client: Client{Version: protocol.Version20250326, Capabilities: []byte("{}")},
		legs: []legState{
			{target: targetID{1}, revision: protocol.Version20241105, sid: "s"},
			{target: targetID{2}, revision: protocol.Version20251125, endpoint: "10.0.0.1:80"},
		},
	}
	plain, left := tok.encode()
	if len(left) > 0 {
		t.Error("legs were left out")
	}
	got, legs, err := decodeToken(plain)
	if err != nil {
		t.Fatal(err)
	}
	if countLegs(legs) != len(tok.legs) {
		t.Errorf("%d legs", countLegs(legs))
	}
	for _, l := range tok.legs {
		state, ok := findLeg(legs, l.target)
		if !ok {
			t.Errorf("leg %v is not found", l.target)
		}
		got.legs = append(got.legs, state)
	}
	if _, ok := findLeg(legs, targetID{9}); ok {
		t.Error("a leg is found that is not there")
	}
	if d := cmp.Diff(tok, got, cmp.AllowUnexported(token{}, legState{}), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	for i := range plain {
		if _, _, err := decodeToken(plain[:i]); err == nil {
			t.Errorf("decoded %d of %d bytes", i, len(plain))
		}
	}
}

func FuzzToken(f *testing.F) {
	tok := &token{client: Client{Version: protocol.Version20250326}, legs: []legState{{revision: protocol.Version20241105, sid: "s"}}}
	plain, _ := tok.encode()
	s := NewSessions(SessionsOptions{Sealer: sealer(f, key(1))})
	f.Add(plain, s.opts.Sealer.Seal("session", plain, aad("b", "i")))
	f.Add([]byte{1, 0}, "AQ")
	f.Fuzz(func(t *testing.T, plain []byte, id string) {
		if tok, legs, err := decodeToken(plain); err == nil {
			r := tokenReader{rest: legs}
			for range r.byte() {
				tok.legs = append(tok.legs, r.leg())
			}
			again, left := tok.encode()
			if _, got, err := decodeToken(again); len(left) == 0 && (err != nil || countLegs(got) != countLegs(legs)) {
				t.Errorf("%x does not come back: %v", plain, err)
			}
		}
		if sess, ok := s.Open(id, "b", "i"); ok && sess.ID() != id {
			t.Errorf("%q opened as %q", id, sess.ID())
		}
	})
}

// An idle session of five targets costs at most 2 KiB, all told.
func TestSessionMemory(t *testing.T) {
	const n, targets = 5000, 5
	tok := &token{client: Client{Version: protocol.Version20251125, Capabilities: []byte(elicit), Info: []byte(`{"name":"claude","version":"1.2.3"}`)}}
	tok.expires = time.Now().Add(time.Hour)
	var tgs []*Target
	for i := range targets {
		tgs = append(tgs, NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://x.example", RoundTripper: http.DefaultTransport, Identity: fmt.Sprint(i)}, Options{}))
		tok.legs = append(tok.legs, legState{target: tgs[i].id, revision: protocol.Version20251125, sid: "0123456789abcdef0123456789abcdef", endpoint: "10.1.2.3:8080"})
	}
	s := sessions(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range n {
		tok.nonce[0], tok.nonce[1] = byte(i), byte(i>>8)
		plain, _ := tok.encode()
		sess, ok := s.Open(s.opts.Sealer.Seal("session", plain, aad("default/b", "0123456789abcdef")), "default/b", "0123456789abcdef")
		if !ok {
			t.Fatal("not opened")
		}
		for _, tg := range tgs[:1] { // an idle session has used a target or so
			if _, err := sess.Leg(context.Background(), tg, Forward{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	per := (heap() - before) / n
	t.Logf("%d bytes a session", per)
	if per > 2<<10 {
		t.Errorf("%d bytes a session", per)
	}
	runtime.KeepAlive(s)
	for _, tg := range tgs {
		tg.Close()
	}
}

// A session that fell out of the cache while it was in use is there twice. It
// has one set of parts, and ends once for both.
func TestSessionOpenedTwice(t *testing.T) {
	s := sessions(t, func(o *SessionsOptions) { o.Cache = 1 })
	first := create(t, s, client("a"))
	create(t, s, client("a"))
	second, ok := s.Open(first.ID(), "default/b", "a")
	if !ok || second == first {
		t.Fatal("not opened twice")
	}
	first.Live(func() any { return 1 })
	second.Live(func() any { return 2 })
	if again, ok := s.Open(first.ID(), "default/b", "a"); !ok || again.Peek() != 1 {
		t.Error("the parts of the first are gone")
	}
	second.End(t.Context())
	<-first.Done()
	<-second.Done()
	if _, ok := s.Open(first.ID(), "default/b", "a"); ok {
		t.Error("an ended session opens")
	}
}

// A session goes on while its key is held, and no longer, though it be opened.
func TestSessionKeysChange(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize)
	sealer, err := NewSealer(a)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSessions(SessionsOptions{Sealer: sealer})
	sess, err := s.Create("default/b", Client{Isolation: "i", Version: "2025-11-25"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		keys [][]byte
		want bool
	}{{[][]byte{a}, true}, {[][]byte{b, a}, true}, {[][]byte{b}, false}} {
		if err := sealer.SetKeys(tt.keys...); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Open(sess.ID(), "default/b", "i"); ok != tt.want {
			t.Errorf("with %d keys: %v", len(tt.keys), ok)
		}
	}
}

// An opened id that nobody uses any more is let go, one that is used is not.
func TestIdleSessionsAreForgotten(t *testing.T) {
	now := time.Now()
	s := sessions(t, func(o *SessionsOptions) { o.Now = func() time.Time { return now } })
	idle, busy := create(t, s, client("a")), create(t, s, client("a"))
	open := func(sess *Session) *Session {
		t.Helper()
		opened, ok := s.Open(sess.ID(), "default/b", "a")
		if !ok {
			t.Fatal("not opened")
		}
		return opened
	}
	first := open(busy)
	open(idle)
	for range idleSweeps {
		now = now.Add(sweepEvery)
		if open(busy) != first {
			t.Fatal("a session in use is opened anew")
		}
	}
	if n := s.Count(); n != 1 {
		t.Errorf("%d are held", n)
	}
	open(idle)
}
