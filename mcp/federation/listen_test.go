package federation

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A teller is a target that tells of resources, to all that listen. It grants no URI
// that says "refused".
type teller struct {
	*scripted
	mu        sync.Mutex
	listeners map[chan string]string // and what they listen for
}

func newTeller(t *testing.T, name string, modern bool) *teller {
	s := &teller{scripted: newScripted(t, name, modern, `{"resources":{"subscribe":true}}`), listeners: map[chan string]string{}}
	grant := func(x *exchange) string {
		if strings.Contains(x.params, "refused") {
			return `"error":{"code":-32602,"message":"no"}`
		}
		return `"result":{}`
	}
	if !modern {
		s.handle("resources/subscribe", grant)
		s.handle("resources/unsubscribe", grant)
		return s
	}
	s.handle("subscriptions/listen", func(x *exchange) string {
		uris := []string{}
		for raw := range protocol.Elements(protocol.Get([]byte(x.params), "notifications", "resourceSubscriptions")) {
			if !strings.Contains(string(raw), "refused") {
				uris = append(uris, string(raw))
			}
		}
		filter, told := strings.Join(uris, ","), make(chan string, 100)
		s.mu.Lock()
		s.listeners[told] = filter
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, told)
		}()
		tag := `"_meta":{"io.modelcontextprotocol/subscriptionId":` + x.id + `}`
		x.send(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":[` + filter + `]},` + tag + `}}`)
		for {
			select {
			case m := <-told:
				x.send(strings.Replace(m, `"params":{`, `"params":{`+tag+`,`, 1))
			case <-x.ctx.Done():
				return `"result":{}`
			}
		}
	})
	return s
}

// tell tells all that listen.
func (s *teller) tell(m string) {
	if !s.modern {
		s.push <- m
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for told := range s.listeners {
		told <- m
	}
}

// listens reports whether somebody listens, for exactly that where it matters.
func (s *teller) listens(filter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.listeners {
		if f == filter {
			return len(s.listeners) == 1
		}
	}
	s.scripted.mu.Lock()
	defer s.scripted.mu.Unlock()
	return !s.modern && s.streams > 0
}

func update(uri string) string {
	return `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `","vendor":1.0}}`
}

// A client hears of what it subscribed to and of its parts, whatever the eras; what
// is acknowledged is what the target granted.
func TestResourceSubscriptions(t *testing.T) {
	for _, modern := range []bool{true, false} {
		for _, version := range []string{"2025-11-25", "2026-07-28"} {
			t.Run(fmt.Sprint(version, " to modern ", modern), func(t *testing.T) {
				s := newTeller(t, "s", modern)
				g := newGateway(t, Config{Targets: scripts(s.scripted)})
				c := g.caller(version, `{}`)
				var events chan string
				stop := func() {}
				if c.modern {
					events, stop = c.listening(`{"resourceSubscriptions":["s+x://dir","s+x://refused","s+item://7","none+x://1",7],"toolsListChanged":false}`)
					want := `"notifications":{"resourceSubscriptions":["s+x://dir","s+item://7"]}`
					if ack := <-events; !strings.Contains(ack, want) {
						t.Fatalf("acknowledged %s, want %s", ack, want)
					}
				} else {
					events, stop = c.hearing()
					// What is taken back comes first: what the target is asked for before and in the end differ.
					for _, uri := range []string{"s+x://gone", "s+x://dir", "s+item://7"} {
						if _, got := c.do("resources/subscribe", "", `"uri":"`+uri+`"`, ""); !strings.Contains(got, `"result":{}`) {
							t.Fatal(got)
						}
					}
					if _, got := c.do("resources/unsubscribe", "", `"uri":"s+x://gone"`, ""); !strings.Contains(got, `"result":{}`) {
						t.Fatal(got)
					}
				}
				eventually(t, "the target is listened to", func() bool { return s.listens(`"item://7","x://dir"`) })
				for _, uri := range []string{"x://directory", "x://refused", "x://gone", "x://other", "x://dir", "x://dir/a", "x://dir?q", "item://7"} {
					s.tell(update(uri))
				}
				for _, want := range []string{"x://dir", "x://dir/a", "x://dir?q", "item://7"} {
					got := <-events
					if !strings.Contains(got, `"uri":"s+`+want+`","vendor":1.0`) {
						t.Errorf("heard %s, want %s", got, want)
					}
					if tagged := strings.Contains(got, `"io.modelcontextprotocol/subscriptionId":1}`); tagged != c.modern {
						t.Errorf("the tag of %s", got)
					}
				}
				stop()
			})
		}
	}
}

// A target's session that is lost comes back with what is still subscribed to.
func TestResubscribed(t *testing.T) {
	s := newTeller(t, "s", false)
	g := newGateway(t, Config{Targets: scripts(s.scripted)})
	c := g.caller("2025-11-25", `{}`)
	for _, uri := range []string{"s+x://1", "s+x://2"} {
		c.do("resources/subscribe", "", `"uri":"`+uri+`"`, "")
	}
	c.do("resources/unsubscribe", "", `"uri":"s+x://1"`, "")
	s.forget()
	c.do("resources/read", "", `"uri":"s+x://3"`, "")
	got := s.reached("resources/subscribe")
	if len(got) != 3 || got[2] != `{"uri":"x://2"}` {
		t.Errorf("the target was asked for %s", got)
	}
}

// A target that is not there when a stream opens is listened to once it is.
func TestLateTargetIsHeard(t *testing.T) {
	s := newTeller(t, "s", false)
	var up atomic.Bool
	s.handle("initialize", func(*exchange) string {
		if !up.Load() {
			return `"error":{"code":-32603,"message":"not yet"}`
		}
		return `"result":{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"1"}}`
	})
	other := newScripted(t, "other", false, `{"tools":{}}`)
	g := newGateway(t, Config{Targets: scripts(s.scripted, other)})
	g.hub.relisten = time.Millisecond
	c := g.caller("2025-11-25", `{}`)
	events, _ := c.hearing()
	up.Store(true)
	eventually(t, "the target is listened to", func() bool { return s.listens("") })
	eventually(t, "the client has subscribed", func() bool {
		_, got := c.do("resources/subscribe", "", `"uri":"s+x://1"`, "")
		return strings.Contains(got, `"result":{}`)
	})
	s.tell(update("x://1"))
	if got := <-events; !strings.Contains(got, `"uri":"s+x://1"`) {
		t.Error(got)
	}
}
