package federation

import (
	"strings"
	"testing"
)

// A call to a legacy target that is parked goes on with its retry, once, and with
// nobody else's.
func TestParked(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.asking()
	g := newGateway(t, Config{Targets: targets(s)})
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}`
	call := func(extra string, header ...string) string {
		_, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_sample"`+extra+`,`+meta+`}}`,
			append(header, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "s_sample")...)
		return body
	}
	stateOf := func(body string) string {
		_, rest, ok := strings.Cut(body, `"requestState":"`)
		if !ok {
			t.Fatal(body)
		}
		state, _, _ := strings.Cut(rest, `"`)
		return state
	}
	answer := `,"inputResponses":{"q1":{"role":"assistant","model":"m","content":{"type":"text","text":"42"}}}`
	first := call("")
	if !strings.Contains(first, `"inputRequests":{"q1":{"method":"sampling/createMessage","params":{`) {
		t.Fatal(first)
	}
	state := stateOf(first)
	if got := call(answer+`,"requestState":"`+state+`"`, "X-Test-Principal", "mallory"); !strings.Contains(got, "-32602") {
		t.Errorf("another user: %s", got)
	}
	if got := call(answer + `,"arguments":{"x":1},"requestState":"` + state + `"`); !strings.Contains(got, "-32602") {
		t.Errorf("other arguments: %s", got)
	}
	// An answer that is missing is asked for again.
	again := call(`,"inputResponses":{},"requestState":"` + state + `"`)
	if !strings.Contains(again, `"resultType":"input_required"`) || !strings.Contains(again, `"q1"`) {
		t.Fatalf("without the answer: %s", again)
	}
	state = stateOf(again)
	if got := call(answer + `,"requestState":"` + state + `"`); !strings.Contains(got, `"text":"42"`) || !strings.Contains(got, `"resultType":"complete"`) {
		t.Errorf("the retry: %s", got)
	}
	if got := call(answer + `,"requestState":"` + state + `"`); !strings.Contains(got, "-32602") {
		t.Errorf("the retry again: %s", got)
	}
	if n := len(s.reached("tools/call")); n != 1 {
		t.Errorf("the tool was called %d times", n)
	}
	// A client that can't be asked is told, and the target is not left waiting.
	status, body := g.modern("tools/call", "s_roots", `"name":"s_roots"`)
	if !strings.Contains(body, `"error"`) && !strings.Contains(body, `"isError":true`) {
		t.Errorf("%d %s", status, body)
	}
	g.hub.parking.Lock()
	defer g.hub.parking.Unlock()
	if n := len(g.hub.parked); n != 0 {
		t.Errorf("%d calls are left parked", n)
	}
}
