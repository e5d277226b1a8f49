package protocol_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A view is what a policy decides on, as one decoder reads it from a message.
type view struct {
	Method, ID      string
	Name, URI       string
	Arguments       any
	ProtocolVersion string
	Cursor          string
}

// parsed is the view through this package.
func parsed(t fataler, m *protocol.Message) view {
	v := view{Method: m.Method, ID: id(m.ID)}
	v.Name, _ = protocol.GetString(m.Params, "name")
	v.URI, _ = protocol.GetString(m.Params, "uri")
	v.Cursor, _ = protocol.GetString(m.Params, "cursor")
	v.ProtocolVersion, _ = protocol.GetString(m.Params, "_meta", protocol.MetaProtocolVersion)
	if args := protocol.Get(m.Params, "arguments"); args != nil {
		v.Arguments = decode(t, args)
	}
	return v
}

// id makes ids comparable: decoders differ in whether they keep the token.
func id(raw protocol.ID) string {
	if s, ok := protocol.String([]byte(raw)); ok {
		return "string " + s
	}
	if raw == "" {
		return ""
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return string(raw)
	}
	return fmt.Sprint("number ", f+0) // -0 is 0
}

// A wireMessage is the message as Go programs commonly declare it.
type wireMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      any             `json:"name"`
		URI       any             `json:"uri"`
		Cursor    any             `json:"cursor"`
		Arguments json.RawMessage `json:"arguments"`
		Meta      json.RawMessage `json:"_meta"`
	} `json:"params"`
}

func (w *wireMessage) view(t fataler) view {
	str := func(v any) string { s, _ := v.(string); return s }
	v := view{Method: w.Method, ID: id(protocol.ID(w.ID)), Name: str(w.Params.Name), URI: str(w.Params.URI), Cursor: str(w.Params.Cursor)}
	if string(w.ID) == "null" {
		v.ID = ""
	}
	if w.Params.Arguments != nil {
		v.Arguments = decode(t, w.Params.Arguments)
	}
	var meta struct {
		Version any `json:"io.modelcontextprotocol/protocolVersion"`
	}
	if json.Unmarshal(w.Params.Meta, &meta) == nil {
		v.ProtocolVersion = str(meta.Version)
	}
	return v
}

// checkDecoders holds that a message which Parse accepts says the same to
// encoding/json (which folds case and takes the last duplicate), to
// encoding/json's second version and to go-sdk.
func checkDecoders(t fataler, b []byte) (want view, ok bool) {
	m, err := protocol.Parse(b, protocol.Limits{})
	if err != nil {
		return view{}, false
	}
	want = parsed(t, m)
	var v1, v2 wireMessage
	if err := json.Unmarshal(b, &v1); err != nil {
		t.Fatalf("%s: encoding/json refuses it: %v", b, err)
	}
	if diff := cmp.Diff(want, v1.view(t)); diff != "" {
		t.Fatalf("%s: encoding/json reads something else (-parsed +decoded):\n%s", b, diff)
	}
	if err := jsonv2.Unmarshal(b, &v2, jsonv2.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%s: json v2 refuses it: %v", b, err)
	}
	if diff := cmp.Diff(want, v2.view(t)); diff != "" {
		t.Fatalf("%s: json v2 reads something else (-parsed +decoded):\n%s", b, diff)
	}
	sdk, err := jsonrpc.DecodeMessage(b)
	if err != nil {
		return want, true // go-sdk may be stricter, as of large ids
	}
	if m.Kind == protocol.Response {
		if _, ok := sdk.(*jsonrpc.Response); !ok {
			t.Fatalf("%s: go-sdk reads a %T", b, sdk)
		}
		return want, true
	}
	req, ok := sdk.(*jsonrpc.Request)
	if !ok || req.Method != m.Method || req.IsCall() != (m.Kind == protocol.Request) || m.Params != nil && !bytes.Equal(req.Params, m.Params) {
		t.Fatalf("%s: go-sdk reads %+v", b, sdk)
	}
	return want, true
}

// decoderSeeds are messages on which decoders are known to differ, beside some
// on which they agree.
var decoderSeeds = []string{
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[1,2.50,"\u00e4"],"Name":"b"}}}`,
	`{"jsonrpc":"2.0","id":"\u0061","method":"tools\/call","params":{"n\u0061me":"\ud83d\ude00","\u0061rguments":{}}}`,
	`{"jsonrpc":"2.0","id":9007199254740993,"method":"resources/read","params":{"uri":"file:\/\/\/a"}}`,
	`{"jsonrpc":"2.0","id":-0,"method":"tools/list","params":{"cursor":"","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"__proto__":{"name":"b"},"constructor":1,"":null}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","__proto__":{"name":"b"}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argument\u017f":{}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"a"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\ud800"}}`,
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\xff\"}}",
	"\uFEFF" + `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}{"method":"b"}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"a":1,}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"a":1e999}}}`,
	`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`,
	`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown tool: a"}}`,
	`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}`,
}

func FuzzDecoders(f *testing.F) {
	for _, s := range decoderSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkDecoders(t, b) })
}

// FuzzParams keeps the fuzzer inside params, where more is decided.
func FuzzParams(f *testing.F) {
	f.Add(`"name":"a"`, `"arguments":{"x":1}`, "name")
	f.Add(`"name":"a"`, `"N\u0061me":"b"`, "Name")
	f.Add(`"_meta":{}`, `"uri":"a"`, "uri\u0000")
	f.Fuzz(func(t *testing.T, a, b, key string) {
		checkDecoders(t, []byte(call(a+","+b)))
		checkDecoders(t, []byte(call(a+","+string(protocol.Quote(key))+`:"x"`)))
		checkDecoders(t, []byte(call(string(protocol.Quote(key))+`:"x",`+b)))
	})
}

// TestNode compares with JSON.parse of Node, on which most MCP servers run.
func TestNode(t *testing.T) {
	const script = `
		for (const line of require("fs").readFileSync(0, "latin1").trim().split("\n")) {
			let v = {};
			try {
				const m = JSON.parse(new TextDecoder().decode(Buffer.from(line, "base64")));
				const p = m.params ?? {};
				const str = s => typeof s == "string" ? s : "";
				const id = m.id == null ? "" : typeof m.id == "string" ? "string " + m.id : "number " + (m.id + 0);
				v = {Method: m.method ?? "", ID: id, Name: str(p.name), URI: str(p.uri), Cursor: str(p.cursor),
					ProtocolVersion: str(p._meta?.["io.modelcontextprotocol/protocolVersion"])};
				v.Arguments = p.arguments ?? null;
			} catch (e) { v.Method = "refused: " + e }
			console.log(JSON.stringify(v));
		}`
	var in bytes.Buffer
	for _, s := range decoderSeeds {
		in.WriteString(base64.StdEncoding.EncodeToString([]byte(s)) + "\n")
	}
	cmd := exec.Command("node", "-e", script)
	cmd.Stdin = &in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node (of which version 20 is needed: apt-get install nodejs): %v\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(decoderSeeds) {
		t.Fatalf("%d answers to %d messages", len(lines), len(decoderSeeds))
	}
	accepted := 0
	for i, line := range lines {
		want, ok := checkDecoders(t, []byte(decoderSeeds[i]))
		if !ok {
			continue
		}
		accepted++
		var got view
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		// Node writes numbers in its own way: compare them as doubles.
		args, err := json.Marshal(want.Arguments)
		if err != nil {
			t.Fatal(err)
		}
		if want.Arguments = nil; json.Unmarshal(args, &want.Arguments) != nil {
			want.Arguments = got.Arguments // a number that no double holds
		}
		want.ID = strings.Replace(want.ID, "9.007199254740992e+15", "9007199254740992", 1)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: Node reads something else (-parsed +decoded):\n%s", decoderSeeds[i], diff)
		}
	}
	if accepted < 8 || accepted > len(decoderSeeds)-8 {
		t.Errorf("%d of %d messages were accepted: the table shows little", accepted, len(decoderSeeds))
	}
}
