package gateway

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/telemetry"
)

// number returns the number that an environment variable has, or what it is by default:
// `make soak` sets them.
func number(t testing.TB, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// A shuffler answers the tool bad of a peer: it keeps calls until others have come, and answers them in
// another order, each with answers to others before and after, under ids and progress tokens that are stolen,
// changed or of no call at all.
type shuffler struct {
	mu      sync.Mutex
	waiting []*shuffled
	late    *time.Timer
	recent  [64]given // to others
	next    int
	calls   atomic.Int64
}

// A shuffled is a call that waits for its answer.
type shuffled struct {
	x    *peerExchange
	done chan struct{}
}

// A given is an answer that was given.
type given struct{ id, answer string }

// most is how many calls wait at most.
const most = 5

func (s *shuffler) answer(x *peerExchange) {
	s.calls.Add(1)
	w := &shuffled{x: x, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	if len(s.waiting) >= most {
		s.flush()
	} else {
		if s.late != nil {
			s.late.Stop()
		}
		s.late = time.AfterFunc(2*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.flush()
		})
	}
	s.mu.Unlock()
	<-w.done
}

// flush answers those that wait, in any order. s.mu is held.
func (s *shuffler) flush() {
	rand.Shuffle(len(s.waiting), func(i, j int) { s.waiting[i], s.waiting[j] = s.waiting[j], s.waiting[i] })
	for _, w := range s.waiting {
		x := w.x
		if !x.style.json {
			other := s.recent[rand.N(len(s.recent))] // who may still wait for an answer
			if other.id == "" {
				other.id = "7"
			}
			messages := []string{
				other.answer,
				`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + other.id + `,"progress":1,"message":"stolen"}}`,
				strings.Replace(textResult("stolen"), "ID", `"ID"`, 1),
				`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID,"progress":1,"message":"NONCE"}}`,
				good, good, other.answer, textResult("late"),
			}
			messages = slices.DeleteFunc(messages, func(m string) bool { return m == "" || rand.N(3) == 0 && m != good })
			x.send(messages...)
		} else {
			x.send(good)
		}
		s.recent[s.next] = given{string(x.m.ID), x.fill(good)}
		s.next = (s.next + 1) % len(s.recent)
		close(w.done)
	}
	s.waiting = nil
}

// I2: nobody gets what belongs to another. 64 clients of both eras, each with credentials of its own, call targets that
// answer late, in any order, twice, and with what belongs to others, over connections of their own and over ones
// that all share. Each call has its own nonce, and is executed once.
func TestNoneCrossed(t *testing.T) {
	total := number(t, "MCPGW_SOAK_CALLS", 10_000)
	const clients = 64
	type target struct {
		name string
		peer *peer
		s    *shuffler
	}
	var targets []target
	var text []string
	for i, style := range []style{modernJSON, legacyJSON, modernStream, legacyStream, legacySSE, modernStream, legacyStream, legacySSE} {
		s := new(shuffler)
		own := i >= 2 && i%2 == 0 // gets the credentials of the client
		name := fmt.Sprintf("t%d", i)
		p := newPeer(t, style, func(x *peerExchange) {
			if who, _, _ := strings.Cut(x.nonce(), "-"); own && x.req.Header.Get("Authorization") != "Bearer "+who {
				t.Errorf("the call %s has the credentials %s", x.nonce(), x.req.Header.Get("Authorization"))
			}
			s.answer(x)
		})
		more := ", timeout: 60s"
		if own {
			more += ", auth: {kind: Passthrough}"
		}
		p.forgetful = true
		targets, text = append(targets, target{name, p, s}), append(text, p.target(name, more))
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []style{modernStdio, legacyStdio} {
		name := strings.ReplaceAll(s.name, " ", "-")
		targets = append(targets, target{name: name})
		text = append(text, fmt.Sprintf("{name: %s, timeout: 60s, stdio: {command: %q, env: {%s: %q}}}", name, binary, stdioVariable, "shuffler/"+s.name))
	}
	pipes := len(targets) - 2 // the children: all callers of a Backend share them, unless credentials tell them apart
	g := startOn(t, RuntimeOptions{}, Options{Account: noAccount{}},
		mcpTargets(text[:pipes]...)+strings.Replace(mcpTargets(text[pipes:]...), "{name: b}", "{name: pipes}", 1))
	var called [16]atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		who := fmt.Sprintf("c%d", i)
		c, first, n := g.newCallerAt(t, "/mcp/b", i%4 < 2, "Bearer "+who), 0, pipes
		if i%2 == 0 {
			c, first, n = g.newCallerAt(t, "/mcp/pipes", i%4 < 2, "Bearer "+who), pipes, len(targets)-pipes
		}
		wg.Go(func() {
			for i := range total / clients {
				to := first + rand.N(n)
				nonce := fmt.Sprintf("%s-%d-%x", who, i, rand.Uint64())
				c.token = nonce
				m, before, err := c.do("tools/call", targets[to].name+"_bad", fmt.Sprintf(`"name":"%s_bad","arguments":{"text":%q}`, targets[to].name, nonce))
				if err != nil || m.Error != nil {
					t.Errorf("%s at %s: %v, %v", nonce, targets[to].name, m, err)
					return
				}
				called[to].Add(1)
				if got := textOf(m); got != nonce {
					t.Errorf("%s at %s got %q", nonce, targets[to].name, got)
					return
				}
				for _, b := range before {
					token, _ := protocol.GetString(b.Params, "progressToken")
					message, _ := protocol.GetString(b.Params, "message")
					if b.Method != "notifications/progress" || token != nonce || message != nonce {
						t.Errorf("%s at %s was told %s", nonce, targets[to].name, b.Raw)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for i, to := range targets {
		if to.peer == nil {
			continue
		}
		if sent, got := called[i].Load(), to.s.calls.Load(); sent != got {
			t.Errorf("%s was called %d times, and executed %d", to.name, sent, got)
		}
	}
	g.stop()
}

// serveShuffler is a shuffling peer on standard input and output: what the test binary is when its environment
// says so.
func serveShuffler(name string) {
	s := new(shuffler)
	servePipe(name, func(x *peerExchange) { go s.answer(x) })
}

// noAccount takes no records: of a million there is nothing to look at.
type noAccount struct{}

func (noAccount) Begin(*telemetry.Record)  {}
func (noAccount) Passed(*telemetry.Record) {}
func (noAccount) End(*telemetry.Record)    {}

// A lifecycle is a session that begins, is used, and is never ended. 30,000 of them leave nothing behind: no
// goroutines, no connections, and no more memory than the last thousands of them.
func TestLifecycles(t *testing.T) {
	total := number(t, "MCPGW_SOAK_LIFECYCLES", 1000)
	p, q := newPeer(t, legacyJSON, nil), newPeer(t, modernJSON, nil)
	var sessions atomic.Int64
	p.hello = func(x *peerExchange) { x.hello(fmt.Sprintf("s%d", sessions.Add(1))) }
	p.forgetful, q.forgetful = true, true
	g := startOn(t, RuntimeOptions{}, Options{Account: noAccount{}}, mcpTargets(
		p.target("old", ", timeout: 60s, auth: {kind: Passthrough}"), q.target("new", ", timeout: 60s")))
	const workers = 16
	callers := make([]*caller, workers)
	for i := range callers {
		// What bounds the rate of sessions bounds that of each caller.
		callers[i] = g.newCallerAt(t, "/mcp", false, fmt.Sprintf("Bearer c%d", i))
	}
	run := func(n int) {
		var wg sync.WaitGroup
		for i, c := range callers {
			wg.Go(func() {
				for j := range n / workers {
					if err := c.initialize(); err != nil {
						t.Error(err)
						return
					}
					nonce := fmt.Sprintf("%d-%d", i, j)
					for _, tool := range []string{"old_good", "new_good"} {
						if got := c.call(tool, nonce); got != nonce {
							t.Errorf("%s of %s: %q", tool, nonce, got)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	}
	type use struct {
		heap        int64
		goroutines  int
		connections int
	}
	used := func() use {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		conns, _ := p.open()
		more, _ := q.open()
		return use{int64(m.HeapAlloc), runtime.NumGoroutine(), conns + more + int(g.Connections())}
	}
	run(total / 2)
	before := used()
	run(total / 2)
	after := used()
	t.Logf("%d lifecycles: %+v after half of them, %+v at the end", total, before, after)
	if grown := after.heap - before.heap; grown > 4<<20+int64(total/2)*2<<10 && grown > before.heap/10 {
		t.Errorf("%d sessions more take %d KiB more", total/2, grown>>10)
	}
	if after.goroutines > before.goroutines+2*workers {
		t.Errorf("%d goroutines at the end, %d at half", after.goroutines, before.goroutines)
	}
	if after.connections > before.connections+2*workers {
		t.Errorf("%d connections at the end, %d at half", after.connections, before.connections)
	}
	g.stop()
}
