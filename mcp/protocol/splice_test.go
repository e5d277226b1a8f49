package protocol_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func edit(value string, path ...string) protocol.Edit {
	if value == "" {
		return protocol.Edit{Path: path}
	}
	return protocol.Edit{Path: path, Value: []byte(value)}
}

func TestSplice(t *testing.T) {
	for _, tt := range []struct {
		name, obj string
		edits     []protocol.Edit
		want      string
	}{
		{"no edits", ` { "a" : 1 } `, nil, ` { "a" : 1 } `},
		{"no path", `{"a":1}`, []protocol.Edit{edit("2")}, `{"a":1}`},
		{"replace", `{ "a" : 1 , "b" : [ 2 ] }`, []protocol.Edit{edit("3", "a")}, `{ "a" : 3 , "b" : [ 2 ] }`},
		{"replace what is spelled with escapes", `{"n\u0061me":"x"}`, []protocol.Edit{edit(`"y"`, "name")}, `{"n\u0061me":"y"}`},
		{"add", `{ "a" : 1 }`, []protocol.Edit{edit("2", "b"), edit("3", `c"`)}, `{ "a" : 1,"b":2,"c\"":3 }`},
		{"add to nothing", `{ }`, []protocol.Edit{edit("2", "b")}, `{"b":2}`},
		{"remove first", `{ "a":1 , "b":2 }`, []protocol.Edit{edit("", "a")}, `{ "b":2 }`},
		{"remove last", `{ "a":1 , "b":2 }`, []protocol.Edit{edit("", "b")}, `{ "a":1 }`},
		{"remove middle", `{"a":1,"b":2,"c":3}`, []protocol.Edit{edit("", "b")}, `{"a":1,"c":3}`},
		{"remove all", `{"a":1,"b":2}`, []protocol.Edit{edit("", "a"), edit("", "b")}, `{}`},
		{"remove what is not there", `{"a":1}`, []protocol.Edit{edit("", "b"), edit("", "a", "x"), edit("", "c", "d")}, `{"a":1}`},
		{"inside", `{"_meta":{"x":{"y":1 }, "z":2},"a":1}`, []protocol.Edit{edit("5", "_meta", "x", "y"), edit("", "_meta", "z"), edit(`"t"`, "_meta", "w")}, `{"_meta":{"x":{"y":5 },"w":"t"},"a":1}`},
		{"missing objects are made", `{"a":1}`, []protocol.Edit{edit("5", "_meta", "x", "y"), edit("6", "_meta", "x", "z"), edit("7", "_meta", "w")}, `{"a":1,"_meta":{"x":{"y":5,"z":6},"w":7}}`},
		{"what is no object is replaced", `{"_meta":null,"a":[1]}`, []protocol.Edit{edit("5", "_meta", "x"), edit("6", "a", "b")}, `{"_meta":{"x":5},"a":{"b":6}}`},
		{"the last of two wins", `{"a":1}`, []protocol.Edit{edit("2", "a"), edit("3", "a"), edit("4", "b"), edit("5", "b")}, `{"a":3,"b":5}`},
		{"set, then change inside", `{"a":1}`, []protocol.Edit{edit(`{"x":1, "y":2}`, "a"), edit("3", "a", "x")}, `{"a":{"x":3, "y":2}}`},
		{"change inside, then set", `{"a":{"x":1}}`, []protocol.Edit{edit("3", "a", "x"), edit(`{}`, "a")}, `{"a":{}}`},
		{"remove, then set inside", `{"a":{"x":1,"y":2}}`, []protocol.Edit{edit("", "a"), edit("3", "a", "x")}, `{"a":{"x":3}}`},
		{"set, then remove", `{}`, []protocol.Edit{edit("3", "a", "x"), edit("", "a")}, `{}`},
		{"set inside, then remove inside", `{}`, []protocol.Edit{edit("3", "a", "x"), edit("", "a", "x")}, `{"a":{}}`},
		{"empty name", `{"":{"":1}}`, []protocol.Edit{edit("2", "", "")}, `{"":{"":2}}`},
		{"not an object", `[1]`, []protocol.Edit{edit("2", "a")}, `{"a":2}`},
		{"not an object, and nothing to set", `[1]`, []protocol.Edit{edit("", "a")}, `[1]`},
		{"braces in strings", `{"a":"}{\"","b":"\\"}`, []protocol.Edit{edit("2", "b")}, `{"a":"}{\"","b":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte(tt.obj)
			if got := protocol.Splice(before, tt.edits...); string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if string(before) != tt.obj {
				t.Errorf("the input was changed to %s", before)
			}
		})
	}
	if got := protocol.Splice(nil, edit("1", "a")); string(got) != `{"a":1}` {
		t.Errorf("of nil: %s", got)
	}
	if got := protocol.Splice(nil); string(got) != `{}` {
		t.Errorf("of nil without edits: %s", got)
	}
}

// TestSpliceManyEdits crosses the border between two passes.
func TestSpliceManyEdits(t *testing.T) {
	for _, n := range []int{63, 64, 65, 200} {
		var edits []protocol.Edit
		want := map[string]any{}
		for i := range n {
			name := fmt.Sprint("k", i%50)
			edits = append(edits, edit(fmt.Sprint(i), "o", name))
			want[name] = float64(i)
		}
		var got map[string]any
		if err := json.Unmarshal(protocol.Get(protocol.Splice(nil, edits...), "o"), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d edits (-want +got):\n%s", n, diff)
		}
	}
}

// apply is the slow reference: it decodes, changes and leaves the order of the
// members, which JSON gives no meaning, to the map.
func apply(t fataler, obj []byte, edits []protocol.Edit) any {
	root := decode(t, obj)
	for _, e := range edits {
		if len(e.Path) == 0 {
			continue
		}
		root = applyOne(t, root, e)
	}
	return root
}

func applyOne(t fataler, v any, e protocol.Edit) any {
	obj, ok := v.(map[string]any)
	if !ok {
		if e.Value == nil {
			return v
		}
		obj = map[string]any{}
	}
	name := e.Path[0]
	inner, there := obj[name]
	switch {
	case len(e.Path) == 1 && e.Value == nil:
		delete(obj, name)
	case len(e.Path) == 1:
		obj[name] = decode(t, e.Value)
	case there || e.Value != nil:
		obj[name] = applyOne(t, inner, protocol.Edit{Path: e.Path[1:], Value: e.Value})
	}
	return obj
}

type fataler interface{ Fatalf(string, ...any) }

// decode keeps numbers as they are written.
func decode(t fataler, b []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// checkSplice compares Splice with the reference, and its bytes with the input.
func checkSplice(t fataler, obj []byte, edits []protocol.Edit) {
	got := protocol.Splice(obj, edits...)
	if !jsontext.Value(got).IsValid() { // refuses duplicates
		t.Fatalf("splice %s %+v: not valid: %s", obj, edits, got)
	}
	if diff := cmp.Diff(apply(t, obj, edits), decode(t, got)); diff != "" {
		t.Fatalf("splice %s %+v: got %s (-want +got):\n%s", obj, edits, got, diff)
	}
	// The members that no edit names keep their bytes and their order.
	kept := func(b []byte) (members []string) {
		for name, value := range protocol.Members(b) {
			named := slices.ContainsFunc(edits, func(e protocol.Edit) bool { return len(e.Path) > 0 && e.Path[0] == name })
			if !named {
				members = append(members, name+" "+string(value))
			}
		}
		return members
	}
	if diff := cmp.Diff(kept(obj), kept(got)); diff != "" {
		t.Fatalf("splice %s %+v: got %s, members that no edit names (-want +got):\n%s", obj, edits, got, diff)
	}
	// To set what is there to what it is changes no byte.
	var same []protocol.Edit
	for name, value := range protocol.Members(obj) {
		same = append(same, protocol.Edit{Path: []string{name}, Value: value})
	}
	if again := protocol.Splice(obj, same...); !bytes.Equal(bytes.TrimSpace(obj), again) && len(same) > 0 {
		t.Fatalf("setting every member of %q to itself gives %q", obj, again)
	}
}

// name draws one of few names, so that paths meet.
var nameGen = rapid.SampledFrom([]string{"a", "b", "", "ä", `"`, "_meta"})

// spelled draws a way to write s as JSON.
func spelled(t *rapid.T, s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if rapid.Bool().Draw(t, "escape") {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			q := protocol.Quote(string(r))
			b.Write(q[1 : len(q)-1])
		}
	}
	b.WriteByte('"')
	return b.String()
}

func space(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r "}).Draw(t, "space")
}

// value draws a JSON value; at depth 0 an object.
func value(t *rapid.T, depth int) string {
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 6).Draw(t, "kind")
	}
	if depth > 3 && kind < 3 {
		kind = 3
	}
	switch kind {
	case 0, 1:
		names := rapid.SliceOfNDistinct(nameGen, 0, 4, rapid.ID[string]).Draw(t, "names")
		var members []string
		for _, n := range names {
			members = append(members, space(t)+spelled(t, n)+space(t)+":"+space(t)+value(t, depth+1)+space(t))
		}
		return "{" + strings.Join(members, ",") + "}"
	case 2:
		var elements []string
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			elements = append(elements, space(t)+value(t, depth+1)+space(t))
		}
		return "[" + strings.Join(elements, ",") + "]"
	case 3:
		return rapid.SampledFrom([]string{"0", "-1.50", "1e+05", "9007199254740993"}).Draw(t, "number")
	case 4:
		return rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "literal")
	default:
		return spelled(t, rapid.SampledFrom([]string{"", "}", `\`, `\"`, "]{,:", "ä"}).Draw(t, "string"))
	}
}

func TestSpliceAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		obj := space(t) + value(t, 0) + space(t)
		var edits []protocol.Edit
		for range rapid.IntRange(0, 6).Draw(t, "edits") {
			e := protocol.Edit{Path: rapid.SliceOfN(nameGen, 0, 3).Draw(t, "path")}
			if rapid.IntRange(0, 2).Draw(t, "set") > 0 {
				e.Value = []byte(value(t, 1))
			}
			edits = append(edits, e)
		}
		checkSplice(t, []byte(obj), edits)
	})
}

// FuzzSplice is the same with objects that the fuzzer makes up.
func FuzzSplice(f *testing.F) {
	f.Add([]byte(`{"name":"a","arguments":{"x":[1,"}"]},"_meta":{"progressToken":1}}`), "name", "_meta", "x", []byte(`"b"`), true)
	f.Add([]byte(` { "n\u0061me" : {} , "b":null } `), "name", "b", "name", []byte(`{"b":1}`), false)
	f.Add([]byte(`{}`), "", "", "", []byte(`[]`), true)
	f.Fuzz(func(t *testing.T, obj []byte, a, b, c string, v []byte, remove bool) {
		if !jsontext.Value(obj).IsValid() || !jsontext.Value(v).IsValid() || bytes.TrimSpace(obj)[0] != '{' {
			return // Splice is for checked bytes only
		}
		for _, s := range []*string{&a, &b, &c} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		edits := []protocol.Edit{{Path: []string{a}, Value: v}, {Path: []string{a, b}, Value: v}, {Path: []string{b, c}, Value: v}}
		if remove {
			edits = append(edits, protocol.Edit{Path: []string{a, c}}, protocol.Edit{Path: []string{c}})
		}
		checkSplice(t, obj, edits)
	})
}
