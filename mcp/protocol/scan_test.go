package protocol_test

import (
	"encoding/json"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func TestGet(t *testing.T) {
	const obj = ` { "a" : 1 , "b":{"c":[1, "}" ,{"x":"\"]"}] ,"d":"\\"},"e\u0066":"g\u0068", "":{"":true}, "n":null,"last":-1.5e3}`
	for _, tt := range []struct {
		path []string
		want string // "" for none
	}{
		{[]string{"a"}, "1"},
		{[]string{"b"}, `{"c":[1, "}" ,{"x":"\"]"}] ,"d":"\\"}`},
		{[]string{"b", "c"}, `[1, "}" ,{"x":"\"]"}]`},
		{[]string{"b", "d"}, `"\\"`},
		{[]string{"ef"}, `"g\u0068"`},
		{[]string{`e\u0066`}, ""},
		{[]string{"", ""}, "true"},
		{[]string{"n"}, "null"},
		{[]string{"n", "x"}, ""},
		{[]string{"last"}, "-1.5e3"},
		{[]string{"c"}, ""},
		{[]string{"A"}, ""},
		{[]string{"a", "b"}, ""},
		{[]string{"b", "c", "0"}, ""},
		{nil, obj},
	} {
		if got := protocol.Get([]byte(obj), tt.path...); string(got) != tt.want || (got == nil) != (tt.want == "") {
			t.Errorf("Get %q is %q, want %q", tt.path, got, tt.want)
		}
	}
	for _, tt := range []struct {
		path string
		want string
		ok   bool
	}{{"ef", "gh", true}, {"a", "", false}, {"x", "", false}, {"n", "", false}} {
		if got, ok := protocol.GetString([]byte(obj), tt.path); got != tt.want || ok != tt.ok {
			t.Errorf("GetString %q is %q, %t", tt.path, got, ok)
		}
	}
}

func TestMembersAndElements(t *testing.T) {
	type pair struct{ Name, Value string }
	members := func(s string) (got []pair) {
		for k, v := range protocol.Members([]byte(s)) {
			got = append(got, pair{k, string(v)})
		}
		return got
	}
	elements := func(s string) (got []string) {
		for v := range protocol.Elements([]byte(s)) {
			got = append(got, string(v))
		}
		return got
	}
	if diff := cmp.Diff([]pair{{"a", "1"}, {"b", `{"a":[]}`}, {"\"", "null"}}, members("{ \"a\":1\n,\t\"b\" : {\"a\":[]} ,\"\\\"\":null }")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1", `"]"`, "[2,3]", "{}", "true"}, elements(` [ 1, "]" ,[2,3],{},true ]`)); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "{}", "[]", " { } ", "[ ]", "1", `"a"`, "null"} {
		if got := members(empty); got != nil {
			t.Errorf("members of %q: %v", empty, got)
		}
		if got := elements(empty); got != nil {
			t.Errorf("elements of %q: %v", empty, got)
		}
	}
	// What is an object has no elements, and the other way round.
	if got := elements(`{"a":1}`); got != nil {
		t.Errorf("elements of an object: %v", got)
	}
	if got := members(`["a"]`); got != nil {
		t.Errorf("members of an array: %v", got)
	}
	for range protocol.Members([]byte(`{"a":1,"b":2}`)) {
		break // must not panic
	}
	for range protocol.Elements([]byte(`[1,2]`)) {
		break
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", "\"\\\b\f\n\r\t\x00\x1f\x7f", "ä世\U0001F600\u2028", "</script>", "a\xffb"} {
		q := protocol.Quote(s)
		var got string
		if err := json.Unmarshal(q, &got); err != nil {
			t.Errorf("Quote %q is %s: %v", s, q, err)
		}
		if want := string([]rune(s)); got != want {
			t.Errorf("Quote %q is %s, which means %q", s, q, got)
		}
		if back, ok := protocol.String(q); !ok || back != got {
			t.Errorf("String %s is %q, %t", q, back, ok)
		}
	}
}

// FuzzScan gives unchecked bytes to the functions that want checked ones: they
// must not panic, and what they return lies within.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[{"c":"\""}]}`, `{"a`, `{"a"`, `{"a":`, `{"\`, `[`, `["`, `{"":}`, `{,}`, `{"a" 1}`, `}`, `"\`, `[1,,2]`, `{"a\`} {
		f.Add([]byte(s), "a")
	}
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		protocol.Get(b, name)
		protocol.GetString(b, name, name)
		for k, v := range protocol.Members(b) {
			_, _ = k, v
		}
		for v := range protocol.Elements(b) {
			_ = v
		}
		protocol.Splice(b, protocol.Edit{Path: []string{name}}, protocol.Edit{Path: []string{name, "x"}, Value: []byte("1")})
		if !jsontext.Value(b).IsValid() {
			return
		}
		var obj map[string]json.RawMessage
		if json.Unmarshal(b, &obj) == nil && obj != nil {
			for k := range protocol.Members(b) {
				if _, ok := obj[k]; !ok {
					t.Errorf("member %q of %q is not there", k, b)
				}
			}
		}
	})
}
