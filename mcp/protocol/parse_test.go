package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     protocol.Message
	}{
		{
			"request",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[1,2]}}}`,
			protocol.Message{Kind: protocol.Request, ID: "1", Method: "tools/call", Params: []byte(`{"name":"a","arguments":{"x":[1,2]}}`)},
		},
		{
			"id of a string, members in another order, white space",
			" {\n\t\"params\" : { \"name\" : \"a\" } , \"method\":\"x/y\", \"id\" : \"ä\\u0041\" , \"jsonrpc\":\"2.0\"}\r\n ",
			protocol.Message{Kind: protocol.Request, ID: `"ä\u0041"`, Method: "x/y", Params: []byte(`{ "name" : "a" }`)},
		},
		{
			"big id keeps its digits",
			`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`,
			protocol.Message{Kind: protocol.Request, ID: "9007199254740993", Method: "ping"},
		},
		{
			"negative id, params null",
			`{"jsonrpc":"2.0","id":-7,"method":"ping","params":null}`,
			protocol.Message{Kind: protocol.Request, ID: "-7", Method: "ping"},
		},
		{
			"notification",
			`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			protocol.Message{Kind: protocol.Notification, Method: "notifications/initialized"},
		},
		{
			"escaped method and version",
			`{"jsonrpc":"2\u002e0","method":"tools\/call","id":""}`,
			protocol.Message{Kind: protocol.Request, ID: `""`, Method: "tools/call"},
		},
		{
			"escaped key of the envelope",
			`{"jsonrpc":"2.0","m\u0065thod":"ping","id":1}`,
			protocol.Message{Kind: protocol.Request, ID: "1", Method: "ping"},
		},
		{
			"unknown members of the envelope and of params",
			`{"jsonrpc":"2.0","id":1,"x-trace":{"Method":"other"},"method":"a","params":{"x":1,"_meta":{"vendor/Name":1}}}`,
			protocol.Message{Kind: protocol.Request, ID: "1", Method: "a", Params: []byte(`{"x":1,"_meta":{"vendor/Name":1}}`)},
		},
		{
			"result",
			`{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}`,
			protocol.Message{Kind: protocol.Response, ID: "1", Result: []byte(`{"a":1.0}`)},
		},
		{
			"error",
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"n\u006f","data":[1],"x":2}}`,
			protocol.Message{Kind: protocol.Response, ID: "1", Error: &protocol.Error{
				Code: -32601, Message: "no", Data: []byte(`[1]`), Raw: []byte(`{"code":-32601,"message":"n\u006f","data":[1],"x":2}`),
			}},
		},
		{
			"error of a request whose id could not be read",
			`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`,
			protocol.Message{Kind: protocol.Response, Error: &protocol.Error{
				Code: -32700, Message: "m", Raw: []byte(`{"code":-32700,"message":"m"}`),
			}},
		},
		{
			"error without an id",
			`{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}`,
			protocol.Message{Kind: protocol.Response, Error: &protocol.Error{
				Code: -32700, Message: "m", Raw: []byte(`{"code":-32700,"message":"m"}`),
			}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := protocol.Parse([]byte(tt.in), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Raw = []byte(tt.in)
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// call returns a tools/call whose params are the members given.
func call(members string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + members + `}}`
}

func TestParseRefuses(t *testing.T) {
	const (
		syntax = protocol.CodeParse
		bad    = protocol.CodeInvalidRequest
	)
	for _, tt := range []struct {
		name, in string
		code     protocol.Code
		id       protocol.ID // that could be read
		message  string      // which the error's contains
	}{
		{"nothing", "", syntax, "", "ends too early"},
		{"white space", " \n", syntax, "", "ends too early"},
		{"cut off", `{"jsonrpc":"2.0","id":7,"method":"a"`, syntax, "7", "ends too early"},
		{"not JSON", `hello`, syntax, "", "invalid character"},
		{"byte order mark", "\uFEFF" + call(`"name":"a"`), syntax, "", "invalid character"},
		{"trailing data", call(`"name":"a"`) + " {}", syntax, "7", "data after the message"},
		{"trailing rubbish", call(`"name":"a"`) + "x", syntax, "7", "invalid character"},
		{"trailing comma", `{"jsonrpc":"2.0","id":7,"method":"a",}`, syntax, "7", "invalid character"},
		{"comment", `{"jsonrpc":"2.0",/**/"id":7,"method":"a"}`, syntax, "", "invalid character"},
		{"single quotes", `{'jsonrpc':"2.0"}`, syntax, "", "invalid character"},
		{"NaN", call(`"arguments":{"a":NaN}`), syntax, "7", "invalid character"},
		{"leading zero", call(`"arguments":{"a":01}`), syntax, "7", "invalid character"},
		{"control character in a string", call("\"name\":\"a\nb\""), syntax, "7", "invalid character"},
		{"invalid UTF-8 in a value", call("\"name\":\"a\xff\""), syntax, "7", "invalid UTF-8"},
		{"invalid UTF-8 in a key", call("\"na\xc0me\":\"a\""), syntax, "7", "invalid UTF-8"},
		{"overlong UTF-8", call("\"name\":\"\xc0\xaf\""), syntax, "7", "invalid UTF-8"},
		{"lone high surrogate", call(`"name":"\ud800"`), syntax, "7", "surrogate"},
		{"lone low surrogate in arguments", call(`"name":"a","arguments":{"x":"\udc00a"}`), syntax, "7", "surrogate"},
		{"mismatched brackets", call(`"arguments":{"a":[1}`), syntax, "7", "invalid character"},

		{"number", `5`, bad, "", "must be an object"},
		{"batch", `[{"jsonrpc":"2.0","id":7,"method":"a"}]`, bad, "", "must be an object"},
		{"null", `null`, bad, "", "must be an object"},
		{"no jsonrpc", `{"id":7,"method":"a"}`, bad, "7", `jsonrpc must be "2.0"`},
		{"jsonrpc 1.0", `{"jsonrpc":"1.0","id":7,"method":"a"}`, bad, "7", `jsonrpc must be "2.0"`},
		{"jsonrpc a number", `{"jsonrpc":2.0,"id":7,"method":"a"}`, bad, "7", `jsonrpc must be "2.0"`},
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"a"}`, bad, "", "id must be"},
		{"id a fraction", `{"jsonrpc":"2.0","id":1.5,"method":"a"}`, bad, "", "id must be"},
		{"id a whole fraction", `{"jsonrpc":"2.0","id":1.0,"method":"a"}`, bad, "", "id must be"},
		{"id an exponent", `{"jsonrpc":"2.0","id":1e3,"method":"a"}`, bad, "", "id must be"},
		{"id an object", `{"jsonrpc":"2.0","id":{},"method":"a"}`, bad, "", "id must be"},
		{"id an array", `{"jsonrpc":"2.0","id":[1],"method":"a"}`, bad, "", "id must be"},
		{"id a boolean", `{"jsonrpc":"2.0","id":true,"method":"a"}`, bad, "", "id must be"},
		{"method a number", `{"jsonrpc":"2.0","method":1,"id":7}`, bad, "7", "method must be"},
		{"method empty", `{"jsonrpc":"2.0","method":"","id":7}`, bad, "7", "method must be"},
		{"params an array", `{"jsonrpc":"2.0","params":[1],"method":"a","id":7}`, bad, "7", "params must be an object"},
		{"params a string", `{"jsonrpc":"2.0","params":"{}","method":"a","id":7}`, bad, "7", "params must be an object"},
		{"nothing but an id", `{"jsonrpc":"2.0","id":7}`, bad, "7", "exactly one of"},
		{"method and result", `{"jsonrpc":"2.0","id":7,"method":"a","result":{}}`, bad, "7", "exactly one of"},
		{"method and error", `{"jsonrpc":"2.0","id":7,"method":"a","error":{"code":1,"message":""}}`, bad, "7", "exactly one of"},
		{"result and error", `{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}`, bad, "7", "exactly one of"},
		{"result and params", `{"jsonrpc":"2.0","id":7,"result":{},"params":{}}`, bad, "7", "no params"},
		{"result without id", `{"jsonrpc":"2.0","result":{}}`, bad, "", "must have the id"},
		{"result with id null", `{"jsonrpc":"2.0","id":null,"result":{}}`, bad, "", "must have the id"},
		{"result null", `{"jsonrpc":"2.0","id":7,"result":null}`, bad, "7", "result must be an object"},
		{"result an array", `{"jsonrpc":"2.0","id":7,"result":[]}`, bad, "7", "result must be an object"},
		{"error null", `{"jsonrpc":"2.0","id":7,"error":null}`, bad, "7", "error must be an object"},
		{"error without code", `{"jsonrpc":"2.0","id":7,"error":{"message":"a"}}`, bad, "7", "error.code"},
		{"error code a fraction", `{"jsonrpc":"2.0","id":7,"error":{"code":1.5,"message":"a"}}`, bad, "7", "error.code"},
		{"error code too big", `{"jsonrpc":"2.0","id":7,"error":{"code":4294967296,"message":"a"}}`, bad, "7", "error.code"},
		{"error message a number", `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":5}}`, bad, "7", "error.message"},

		{"duplicate in the envelope", `{"jsonrpc":"2.0","id":7,"method":"a","method":"b"}`, bad, "7", "duplicate"},
		{"duplicate of id", `{"jsonrpc":"2.0","id":7,"id":7,"method":"b"}`, bad, "7", "duplicate"},
		{"duplicate in params", call(`"name":"a","name":"b"`), bad, "7", "duplicate"},
		{"duplicate by escapes", call(`"name":"a","n\u0061me":"b"`), bad, "7", "duplicate"},
		{"duplicate by escapes the other way", call(`"\u006e\u0061me":"a","name":"b"`), bad, "7", "duplicate"},
		{"duplicate deep in arguments", call(`"name":"a","arguments":{"a":[{"b":1,"b":2}]}`), bad, "7", "duplicate"},
		{"duplicate in a result", `{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}`, bad, "7", "duplicate"},

		{"envelope key in another case", `{"jsonrpc":"2.0","id":7,"method":"a","Method":"b"}`, bad, "7", `too close to "method"`},
		{"envelope key in another case, alone", `{"jsonrpc":"2.0","ID":7,"method":"a"}`, bad, "", `too close to "id"`},
		{"envelope key with NUL", `{"jsonrpc":"2.0","id":7,"method":"a","method\u0000":"b"}`, bad, "7", `too close to "method"`},
		{"envelope key with space", `{"jsonrpc":"2.0","id":7,"method":"a"," params":{}}`, bad, "7", `too close to "params"`},
		{"params key in another case", call(`"name":"a","Name":"b"`), bad, "7", `too close to "name"`},
		{"params key with Kelvin sign", `{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"tas\u212A":"b"}}`, bad, "7", `too close to "task"`},
		{"params key with long s", call(`"argument\u017f":{}`), bad, "7", `too close to "arguments"`},
		{"params key with NUL, escaped", call(`"name":"a","name\u0000":"b"`), bad, "7", `too close to "name"`},
		{"params key with tab", call(`"name":"a","\turi":"b"`), bad, "7", `too close to "uri"`},
		{"params key with no-break space", call("\"name\":\"a\",\"name\u00a0\":\"b\""), bad, "7", `too close to "name"`},
		{"meta key in another case", call(`"name":"a","_meta":{"ProgressToken":1}`), bad, "7", `too close to "progressToken"`},
		{"meta key of MCP in another case", call(`"_meta":{"io.modelcontextprotocol/protocolversion":"x"}`), bad, "7", "too close to"},
		{"_Meta", call(`"name":"a","_Meta":{}`), bad, "7", `too close to "_meta"`},
		{"ref key in another case", call(`"ref":{"type":"ref/prompt","name":"a","NAME":"b"}`), bad, "7", `too close to "name"`},
		{"argument key in another case", call(`"argument":{"name":"a","Value":"b"}`), bad, "7", `too close to "value"`},
		{"listen key in another case", call(`"notifications":{"ResourceSubscriptions":[]}`), bad, "7", "too close to"},
		{"error key in another case", `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"a","Code":2}}`, bad, "7", `too close to "code"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := protocol.Parse([]byte(tt.in), protocol.Limits{})
			var e *protocol.Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %v, message %+v", err, m)
			}
			if e.Code != tt.code || !strings.Contains(e.Message, tt.message) {
				t.Errorf("error is %q, want code %d and %q", e, tt.code, tt.message)
			}
			if want := (&protocol.Message{ID: tt.id, Raw: []byte(tt.in)}); !cmp.Equal(want, m) {
				t.Errorf("message (-want +got):\n%s", cmp.Diff(want, m))
			}
		})
	}
}
