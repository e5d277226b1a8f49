package protocol_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// TestAppend shows that what is appended is what go-sdk reads, and what Parse
// accepts.
func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"request", protocol.AppendRequest(nil, `"a\u0062"`, `x"y`, []byte(`{"a":1}`)), `{"jsonrpc":"2.0","id":"a\u0062","method":"x\"y","params":{"a":1}}`},
		{"request without params", protocol.AppendRequest(nil, protocol.IntID(-9007199254740993), "ping", nil), `{"jsonrpc":"2.0","id":-9007199254740993,"method":"ping"}`},
		{"notification", protocol.AppendNotification(nil, "notifications/x", []byte(`{}`)), `{"jsonrpc":"2.0","method":"notifications/x","params":{}}`},
		{"result", protocol.AppendResult(nil, "1", []byte(`{"a":1.0}`)), `{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}`},
		{"empty result", protocol.AppendResult(nil, "1", nil), `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{"error", protocol.AppendError(nil, "1", protocol.Errorf(protocol.CodeInternal, "a %q", "b")), `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"a \"b\""}}`},
		{"error without id", protocol.AppendError(nil, "", &protocol.Error{Code: -32700, Message: "x", Data: []byte("[1]")}), `{"jsonrpc":"2.0","error":{"code":-32700,"message":"x","data":[1]}}`},
		{"a peer's error", protocol.AppendError(nil, "1", &protocol.Error{Code: 5, Raw: []byte(`{"message":"\u0061" , "code":5,"x":1}`)}), `{"jsonrpc":"2.0","id":1,"error":{"message":"\u0061" , "code":5,"x":1}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if string(tt.got) != tt.want {
				t.Errorf("got  %s\nwant %s", tt.got, tt.want)
			}
			if _, err := protocol.Parse(tt.got, protocol.Limits{}); err != nil {
				t.Error(err)
			}
			if tt.name == "error without id" {
				return // go-sdk knows no such message, with null or without
			}
			if _, err := jsonrpc.DecodeMessage(tt.got); err != nil {
				t.Error(err)
			}
		})
	}
	if got := string(protocol.AppendResult([]byte("data: "), "1", nil)); got != `data: {"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("appended: %s", got)
	}
}

// TestErrorData compares the data of MCP's own errors with go-sdk's types.
func TestErrorData(t *testing.T) {
	var version mcp.UnsupportedProtocolVersionData
	e := protocol.UnsupportedProtocolVersion("20\"99", protocol.SupportedVersions())
	if err := json.Unmarshal(e.Data, &version); err != nil {
		t.Fatal(err)
	}
	want := mcp.UnsupportedProtocolVersionData{
		Supported: []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"},
		Requested: "20\"99",
	}
	if diff := cmp.Diff(want, version); diff != "" || e.Code != mcp.CodeUnsupportedProtocolVersion {
		t.Errorf("code %d (-want +got):\n%s", e.Code, diff)
	}

	var capability mcp.MissingRequiredClientCapabilityData
	e = protocol.MissingClientCapability([]byte(`{"elicitation":{}}`))
	if err := json.Unmarshal(e.Data, &capability); err != nil {
		t.Fatal(err)
	}
	if capability.RequiredCapabilities == nil || capability.RequiredCapabilities.Elicitation == nil || e.Code != mcp.CodeMissingRequiredClientCapabilities {
		t.Errorf("%+v", e)
	}

	if e := protocol.HeaderMismatch("%s is missing", "X"); e.Code != mcp.CodeHeaderMismatch || e.Message != "Header mismatch: X is missing" {
		t.Errorf("%+v", e)
	}
	if e := protocol.MethodNotFound("a/b"); e.Code != jsonrpc.CodeMethodNotFound || e.Error() != "Method not found: a/b (-32601)" {
		t.Errorf("%+v", e)
	}
}

func TestEras(t *testing.T) {
	for _, tt := range []struct {
		version    string
		era        protocol.Era
		name       string
		negotiated string
	}{
		{"2024-11-05", protocol.Legacy, "legacy", "2024-11-05"},
		{"2025-03-26", protocol.Legacy, "legacy", "2025-03-26"},
		{"2025-06-18", protocol.Legacy, "legacy", "2025-06-18"},
		{"2025-11-25", protocol.Legacy, "legacy", "2025-11-25"},
		{"2026-07-28", protocol.Modern, "modern", "2025-11-25"},
		{"2099-01-01", protocol.EraUnknown, "unknown", "2025-11-25"},
		{"", protocol.EraUnknown, "unknown", "2025-11-25"},
	} {
		if got := protocol.EraOf(tt.version); got != tt.era || got.String() != tt.name {
			t.Errorf("the era of %q is %v", tt.version, got)
		}
		if got := protocol.NegotiateLegacy(tt.version); got != tt.negotiated {
			t.Errorf("%q negotiates %q", tt.version, got)
		}
	}
	for _, v := range protocol.SupportedVersions() {
		if protocol.EraOf(v) == protocol.EraUnknown {
			t.Errorf("%s is supported but has no era", v)
		}
	}
	for kind, want := range map[protocol.Kind]string{0: "invalid", protocol.Request: "request", protocol.Notification: "notification", protocol.Response: "response"} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is %q", kind, got)
		}
	}
}
