package protocol_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// TestParseLimits parses messages that are one below, at and one above each
// default limit.
func TestParseLimits(t *testing.T) {
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return b.String()[1:]
	}
	for _, tt := range []struct {
		name  string
		limit int
		make  func(n int) string // a message of size n
	}{
		{"bytes", 4 << 20, func(n int) string {
			m := call(`"name":"a"`)
			return m + strings.Repeat(" ", n-len(m))
		}},
		{"depth of arrays", 128, func(n int) string {
			return call(`"a":` + strings.Repeat("[", n-2) + strings.Repeat("]", n-2))
		}},
		{"depth of objects", 128, func(n int) string {
			return call(`"a":` + strings.Repeat(`{"a":`, n-2) + "1" + strings.Repeat("}", n-2))
		}},
		{"depth in the envelope", 128, func(n int) string {
			return `{"jsonrpc":"2.0","id":7,"method":"a","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
		}},
		{"depth in _meta", 128, func(n int) string {
			return call(`"_meta":{"a":` + strings.Repeat("[", n-3) + strings.Repeat("]", n-3) + "}")
		}},
		{"depth of a result", 128, func(n int) string {
			return `{"jsonrpc":"2.0","id":7,"result":` + strings.Repeat(`{"a":`, n-1) + "1" + strings.Repeat("}", n-1) + "}"
		}},
		{"depth of error data", 128, func(n int) string {
			return `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"","data":` + strings.Repeat("[", n-2) + strings.Repeat("]", n-2) + "}}"
		}},
		{"members of params", 10_000, func(n int) string { return call(members(n)) }},
		{"members of arguments", 10_000, func(n int) string { return call(`"arguments":{` + members(n) + `}`) }},
		{"members of the envelope", 10_000, func(n int) string {
			return `{"id":7,"jsonrpc":"2.0","method":"a",` + members(n-3) + `}`
		}},
		{"string", 2 << 20, func(n int) string { return call(`"a":"` + strings.Repeat("x", n) + `"`) }},
		{"key", 2 << 20, func(n int) string { return call(`"` + strings.Repeat("x", n) + `":1`) }},
		{"digits", 64, func(n int) string { return call(`"a":-` + strings.Repeat("1", n)) }},
		{"digits of a fraction and exponent", 64, func(n int) string {
			return call(`"a":0.` + strings.Repeat("1", n-3) + "e+12")
		}},
		{"id of a string", 256, func(n int) string {
			return `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", n) + `","method":"a"}`
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := tt.limit - 1; n <= tt.limit+1; n++ {
				_, err := protocol.Parse([]byte(tt.make(n)), protocol.Limits{})
				var e *protocol.Error
				switch {
				case n <= tt.limit && err != nil:
					t.Errorf("%d of %d refused: %v", n, tt.limit, err)
				case n > tt.limit && (!errors.As(err, &e) || e.Code != protocol.CodeInvalidRequest):
					t.Errorf("%d of %d: error is %v", n, tt.limit, err)
				}
			}
		})
	}
}

// TestParseOwnLimits shows that each limit can be set, and that a set one does
// not change the others.
func TestParseOwnLimits(t *testing.T) {
	for _, tt := range []struct {
		limits protocol.Limits
		in     string
		ok     bool
	}{
		{protocol.Limits{Bytes: 40}, `{"jsonrpc":"2.0","id":1,"method":"abcd"}`, true},
		{protocol.Limits{Bytes: 39}, `{"jsonrpc":"2.0","id":1,"method":"abcd"}`, false},
		{protocol.Limits{Depth: 2}, call(`"a":1`), true},
		{protocol.Limits{Depth: 1}, call(`"a":1`), false},
		{protocol.Limits{Members: 4}, call(`"a":1`), true},
		{protocol.Limits{Members: 3}, call(`"a":1`), false},
		{protocol.Limits{String: 10}, call(`"a":1`), true},
		{protocol.Limits{String: 9}, call(`"a":1`), false},
		{protocol.Limits{Number: 2}, call(`"a":12`), true},
		{protocol.Limits{Number: 1}, call(`"a":12`), false},
		{protocol.Limits{ID: 2}, `{"jsonrpc":"2.0","id":12,"method":"a"}`, true},
		{protocol.Limits{ID: 1}, `{"jsonrpc":"2.0","id":12,"method":"a"}`, false},
	} {
		if _, err := protocol.Parse([]byte(tt.in), tt.limits); (err == nil) != tt.ok {
			t.Errorf("%+v %s: error is %v", tt.limits, tt.in, err)
		}
	}
}

// TestParseHostileNesting shows that five million brackets cost no more than
// the first of them that is too deep.
func TestParseHostileNesting(t *testing.T) {
	b := []byte(`{"jsonrpc":"2.0","id":7,"params":` + strings.Repeat("[", 5_000_000))
	got := testing.AllocsPerRun(1, func() {
		m, err := protocol.Parse(b, protocol.Limits{Bytes: 10 << 20})
		if err == nil || m.ID != "7" {
			t.Errorf("message %+v, error %v", m, err)
		}
	})
	if got > 100 {
		t.Errorf("%v allocations", got)
	}
}

func TestParseBatch(t *testing.T) {
	const one, two = `{"jsonrpc":"2.0","id":1,"method":"a"}`, `{"jsonrpc":"2.0","method":"b","params":{"x":[1]}}`
	for _, tt := range []struct {
		name, in string
		want     []string
		isBatch  bool
		code     protocol.Code // 0: no error
	}{
		{"no array", one, nil, false, 0},
		{"nothing", "", nil, false, 0},
		{"not JSON, not an array", "x[", nil, false, 0},
		{"one", "[" + one + "]", []string{one}, true, 0},
		{"two with white space", " [ " + one + " ,\n" + two + " ] ", []string{one, two}, true, 0},
		{"elements that are no messages are for Parse to refuse", `[1,{"a":1}]`, []string{"1", `{"a":1}`}, true, 0},
		{"three are too many", "[1,2,3]", nil, true, protocol.CodeInvalidRequest},
		{"empty", "[ ]", nil, true, protocol.CodeInvalidRequest},
		{"cut off", "[" + one, nil, true, protocol.CodeParse},
		{"trailing data", "[" + one + "]1", nil, true, protocol.CodeParse},
		{"trailing comma", "[" + one + ",]", nil, true, protocol.CodeParse},
		{"duplicate in the second", "[" + one + `,{"a":1,"a":2}]`, nil, true, protocol.CodeInvalidRequest},
		{"too large", "[" + strings.Repeat(" ", 99) + "1]", nil, true, protocol.CodeInvalidRequest},
		{"element as deep as a message may be", `[{"a":[[1]]}]`, []string{`{"a":[[1]]}`}, true, 0},
		{"element too deep", `[{"a":[[[1]]]}]`, nil, true, protocol.CodeInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			elements, isBatch, err := protocol.ParseBatch([]byte(tt.in), protocol.Limits{Bytes: 100, Depth: 3}, 2)
			var got []string
			for _, e := range elements {
				got = append(got, string(e))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("elements (-want +got):\n%s", diff)
			}
			if isBatch != tt.isBatch {
				t.Errorf("isBatch is %t", isBatch)
			}
			var e *protocol.Error
			if errors.As(err, &e); tt.code == 0 && err != nil || tt.code != 0 && (e == nil || e.Code != tt.code) {
				t.Errorf("error is %v, want code %d", err, tt.code)
			}
		})
	}
}

// An error names the limit that is in the documentation, and an id only when it is one.
func TestErrorsSayWhatIsMeant(t *testing.T) {
	_, _, err := protocol.ParseBatch([]byte(`[{"a":[[[]]]}]`), protocol.Limits{Depth: 3}, 2)
	if err == nil || !strings.Contains(err.Error(), "deeper than 3") {
		t.Errorf("too deep: %v", err)
	}
	for in, want := range map[string]protocol.ID{
		`{"jsonrpc":"2.0","id":01,"method":"ping"}`:        "",
		`{"jsonrpc":"2.0","id":1x,"method":"ping"}`:        "",
		`{"jsonrpc":"2.0","id":"a" "b","method":"ping"}`:   "",
		`{"jsonrpc":"2.0","id":1 ,"method":"ping",}`:       "1",
		`{"jsonrpc":"2.0","id": 1` + "\n" + `,"method":7}`: "1",
	} {
		if m, err := protocol.Parse([]byte(in), protocol.Limits{}); err == nil || m.ID != want {
			t.Errorf("%s: the id is %q, want %q; %v", in, m.ID, want, err)
		}
	}
}
