package protocol_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// The examples of 2026-07-28, Streamable HTTP, Value Encoding, and what borders
// on them.
func TestEncodeHeader(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"us-west1", "us-west1"},
		{"file:///a b/c?d=e&f#g~", "file:///a b/c?d=e&f#g~"},
		{"Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="},
		{" padded ", "=?base64?IHBhZGRlZCA=?="},
		{"line1\nline2", "=?base64?bGluZTEKbGluZTI=?="},
		{"=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="},
		{"=?base64?", "=?base64?"},
		{"?=", "?="},
		{"a\tb", "=?base64?YQli?="},
		{"\x7f", "=?base64?fw==?="},
		{"", "=?base64??="},
	} {
		if got := protocol.EncodeHeader(tt.in); got != tt.want {
			t.Errorf("EncodeHeader %q is %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestDecodeHeader(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"us-west1", "us-west1", true},
		{"", "", true},
		{"a\tb", "a\tb", true},
		{"=?base64?SGVsbG8=?=", "Hello", true},
		{"=?base64??=", "", true},
		{"SGVsbG8=", "SGVsbG8=", true},
		{"=?base64?SGVsbG8=", "=?base64?SGVsbG8=", true},
		{"SGVsbG8=?=", "SGVsbG8=?=", true},
		{"=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?=", true},
		{"=?base64?=", "=?base64?=", true},
		{"=?base64?SGVsbG8?=", "", false},     // no padding
		{"=?base64?SGVs!!!bG8=?=", "", false}, // not of the alphabet
		{"=?base64?SGVsbG9=?=", "", false},    // bits that no encoder sets
		{"=?base64?SGVs\r\nbG8=?=", "", false},
		{"=?base64?SGVsbG8==?=", "", false},
		{"=?base64?SGVs-_8=?=", "", false}, // base64url
		{"=?base64?/w==?=", "", false},     // not UTF-8
		{"caf\xc3\xa9", "", false},
		{"a\x00b", "", false},
		{"a\nb", "", false},
		{"\x7f", "", false},
	} {
		if got, ok := protocol.DecodeHeader(tt.in); ok != tt.ok || ok && got != tt.want {
			t.Errorf("DecodeHeader %q is %q, %t, want %q, %t", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestHeaderEqualsParam(t *testing.T) {
	for _, tt := range []struct {
		header, value string
		want          bool
	}{
		{"us-west1", `"us-west1"`, true},
		{"us-west1", `"us-\u0077est1"`, true},
		{" \tus-west1 ", `"us-west1"`, true},
		{" 42", `42`, true},
		{"us-west1", `"us-west2"`, false},
		{"=?base64?SGVsbG8=?=", `"Hello"`, true},
		{"SGVsbG8=", `"Hello"`, false},
		{"SGVsbG8=", `"SGVsbG8="`, true},
		{"=?base64?SGVsbG8?=", `"Hello"`, false},
		{"=?base64??=", `""`, true},
		{"true", `true`, true},
		{"false", `false`, true},
		{"True", `true`, false},
		{"false", `true`, false},
		{"1", `true`, false},
		{"true", `"true"`, true},
		{"42", `42`, true},
		{"42.0", `42`, true},
		{"42", `42.0`, true},
		{"4.2e1", `42`, true},
		{"420e-1", `42`, true},
		{"-0", `0`, true},
		{"42", `43`, false},
		{"42", `"42"`, true},
		{"42.0", `"42"`, false},
		{"0x2a", `42`, false},
		{"+42", `42`, false},
		{"042", `42`, false},
		{"4_2", `42`, false},
		{"42.", `42`, false},
		{".5e1", `5`, false},
		{"", `42`, false},
		{"4e", `4`, false},
		{"Infinity", `1e999`, false},
		{"1e999", `1e999`, false},
		{"1e1000000000", `1`, false},
		{"1.5", `1.5`, false}, // numbers that are no integers have no header
		{"9007199254740991", `9007199254740991`, true},
		{"9007199254740992", `9007199254740992`, false},
		{"9007199254740992", `9007199254740993`, false},
		{"-9007199254740991", `-9007199254740991`, true},
		{"-9007199254740992", `-9007199254740992`, false},
		{"null", `null`, false},
		{"", `null`, false},
		{"", ``, false},
		{"[1]", `[1]`, false},
		{"{}", `{}`, false},
	} {
		if got := protocol.HeaderEqualsParam(tt.header, []byte(tt.value)); got != tt.want {
			t.Errorf("HeaderEqualsParam %q, %s is %t", tt.header, tt.value, got)
		}
	}
}

func TestHeaderOfParam(t *testing.T) {
	for _, tt := range []struct {
		value, want string
		ok          bool
	}{
		{`"us-west1"`, "us-west1", true},
		{`"H\u0065llo, 世界"`, "=?base64?SGVsbG8sIOS4lueVjA==?=", true},
		{`true`, "true", true},
		{`42.0`, "42", true},
		{`-7`, "-7", true},
		{`1.5`, "", false},
		{`9007199254740992`, "", false},
		{`null`, "", false},
		{`{}`, "", false},
		{`[]`, "", false},
		{``, "", false},
	} {
		got, ok := protocol.HeaderOfParam([]byte(tt.value))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("HeaderOfParam %s is %q, %t, want %q", tt.value, got, ok, tt.want)
		}
		if ok && !protocol.HeaderEqualsParam(got, []byte(tt.value)) {
			t.Errorf("the header %q of %s does not equal it", got, tt.value)
		}
	}
}

// FuzzHeader: what is encoded is a valid header value that survives the trimming
// of a receiver and decodes to what it was; what decodes re-encodes to something
// that decodes to the same.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "a", " a ", "=?base64?", "=?base64?=", "=?base64??=", "=?base64?SGVsbG8=?=", "a\r\nX: y", "世界", "\xff", "\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := protocol.EncodeHeader(s)
		if !httpguts.ValidHeaderFieldValue(v) || v != strings.Trim(v, " \t") || v == "" {
			t.Errorf("EncodeHeader %q is %q: not fit for a header", s, v)
		}
		if got, ok := protocol.DecodeHeader(v); ok != utf8.ValidString(s) || ok && got != s {
			t.Errorf("%q became %q and then %q, %t", s, v, got, ok)
		}
		if d, ok := protocol.DecodeHeader(s); ok {
			if again, ok := protocol.DecodeHeader(protocol.EncodeHeader(d)); !ok || again != d {
				t.Errorf("header %q decodes to %q, and that again to %q", s, d, again)
			}
		}
		if q := protocol.Quote(s); utf8.ValidString(s) && !protocol.HeaderEqualsParam(v, q) {
			t.Errorf("header %q does not equal %s", v, q)
		}
	})
}

// modern returns a request of the modern era.
func modern(t *testing.T, method, members string) *protocol.Message {
	t.Helper()
	if members != "" {
		members += ","
	}
	m, err := protocol.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+members+
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`), protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheckHeaders(t *testing.T) {
	const mismatch, params = protocol.CodeHeaderMismatch, protocol.CodeInvalidParams
	message := func(s string) *protocol.Message {
		m, err := protocol.Parse([]byte(s), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	// header returns a header with the names and values given, written as a
	// client may: net/http makes the names canonical.
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	list := modern(t, "tools/list", "")
	call := modern(t, "tools/call", `"name":"echo"`)
	for _, tt := range []struct {
		name string
		h    http.Header
		m    *protocol.Message
		code protocol.Code // 0: no error
	}{
		{"list", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"), list, 0},
		{"other case of the names", header("mcp-protocol-version", "2026-07-28", "MCP-METHOD", "tools/list"), list, 0},
		{"a name where none is asked for", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Name", "x"), list, 0},
		{"no version", header("Mcp-Method", "tools/list"), list, mismatch},
		{"other version", header("MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/list"), list, mismatch},
		{"two versions", header("MCP-Protocol-Version", "2026-07-28", "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"), list, mismatch},
		{"no method", header("MCP-Protocol-Version", "2026-07-28"), list, mismatch},
		{"other method", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "prompts/list"), list, mismatch},
		{"method in another case", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "TOOLS/LIST"), list, mismatch},
		{"two methods", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Method", "tools/list"), list, mismatch},
		{"two methods in one", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list, tools/list"), list, mismatch},

		{"call", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo"), call, 0},
		{"white space around the name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", " \techo  "), call, 0},
		{"name in base64", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?ZWNobw==?="), call, 0},
		{"name in bad base64", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?ZWNobw?="), call, mismatch},
		{"no name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call"), call, mismatch},
		{"empty name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", ""), call, mismatch},
		{"other name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "wrong_tool_name"), call, mismatch},
		{"two names", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo", "Mcp-Name", "other"), call, mismatch},
		{"name not ASCII", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "w\u00e9"), modern(t, "tools/call", `"name":"wé"`), mismatch},
		{"name in base64 not ASCII", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?d8Op?="), modern(t, "tools/call", `"name":"w\u00e9"`), 0},
		{"body without a name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo"), modern(t, "tools/call", ""), params},
		{"name of the body a number", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "1"), modern(t, "tools/call", `"name":1`), params},
		{"prompt", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "prompts/get", "Mcp-Name", "p"), modern(t, "prompts/get", `"name":"p"`), 0},
		{"other prompt", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "prompts/get", "Mcp-Name", "q"), modern(t, "prompts/get", `"name":"p"`), mismatch},
		{"resource", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "resources/read", "Mcp-Name", "file:///a"), modern(t, "resources/read", `"uri":"file:///a"`), 0},
		{"resource by name", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "resources/read", "Mcp-Name", "file:///a"), modern(t, "resources/read", `"name":"file:///a","uri":"file:///b"`), mismatch},

		{"no _meta", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover"}`), params},
		{"no version in _meta", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}`), params},
		{"version in _meta a number", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":{}}}}`), params},
		{"no capabilities in _meta", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`), params},
		{"capabilities null", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":null}}}`), params},
		{"client info a string", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":"x"}}}`), params},
		{"a version that nobody speaks is not for this function", header("MCP-Protocol-Version", "2099-01-01", "Mcp-Method", "server/discover"), message(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}`), 0},

		{"notification", header("MCP-Protocol-Version", "2026-07-28"), message(`{"jsonrpc":"2.0","method":"notifications/x"}`), 0},
		{"notification with its method", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/x"), message(`{"jsonrpc":"2.0","method":"notifications/x"}`), 0},
		{"notification with another method", header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/y"), message(`{"jsonrpc":"2.0","method":"notifications/x"}`), mismatch},
		{"notification without version", header(), message(`{"jsonrpc":"2.0","method":"notifications/x"}`), mismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := protocol.CheckHeaders(tt.h, tt.m)
			if tt.code == 0 && err != nil || tt.code != 0 && (err == nil || err.Code != tt.code) {
				t.Errorf("error is %v, want code %d", err, tt.code)
			}
		})
	}
}
