package protocol_test

import (
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// toolsCall is a call as clients of the two eras send it.
var toolsCall = map[string]string{
	"legacy": `{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"time_now","arguments":{"zone":"Europe/Berlin","format":"RFC3339","verbose":false},"_meta":{"progressToken":42}}}`,
	"modern": `{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"time_now","arguments":{"zone":"Europe/Berlin"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
}

func BenchmarkParse(b *testing.B) {
	cases := map[string]string{
		"result 64 KiB": `{"jsonrpc":"2.0","id":42,"result":{"content":[{"type":"text","text":"` + strings.Repeat("word and word ", 4600) + `"}]}}`,
		"list of 100": `{"jsonrpc":"2.0","id":42,"result":{"tools":[` + strings.TrimSuffix(strings.Repeat(
			`{"name":"a_tool","description":"does something","inputSchema":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}},`, 100), ",") + `]}}`,
	}
	for name, s := range toolsCall {
		cases["tools/call "+name] = s
	}
	for name, s := range cases {
		b.Run(name, func(b *testing.B) {
			in := []byte(s)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := protocol.Parse(in, protocol.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGetName(b *testing.B) {
	m, err := protocol.Parse([]byte(toolsCall["modern"]), protocol.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		protocol.GetString(m.Params, "name")
	}
}

func BenchmarkSpliceCall(b *testing.B) {
	m, err := protocol.Parse([]byte(toolsCall["modern"]), protocol.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	edits := []protocol.Edit{
		{Path: []string{"name"}, Value: []byte(`"now"`)},
		{Path: []string{"_meta", protocol.MetaProtocolVersion}},
		{Path: []string{"_meta", protocol.MetaClientInfo}},
		{Path: []string{"_meta", protocol.MetaClientCapabilities}},
		{Path: []string{"_meta", protocol.MetaProgressToken}, Value: []byte("7")},
	}
	b.ReportAllocs()
	for b.Loop() {
		protocol.Splice(m.Params, edits...)
	}
}

func BenchmarkCheckHeaders(b *testing.B) {
	m, err := protocol.Parse([]byte(toolsCall["modern"]), protocol.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	h := map[string][]string{
		protocol.HeaderProtocolVersion: {"2026-07-28"}, protocol.HeaderMethod: {"tools/call"}, protocol.HeaderName: {"time_now"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := protocol.CheckHeaders(h, m); err != nil {
			b.Fatal(err)
		}
	}
}

// TestParseAllocs keeps the hot path lean.
func TestParseAllocs(t *testing.T) {
	for name, s := range toolsCall {
		in := []byte(s)
		got := testing.AllocsPerRun(100, func() {
			if _, err := protocol.Parse(in, protocol.Limits{}); err != nil {
				t.Error(err)
			}
		})
		if got > maxParseAllocs {
			t.Errorf("%s: %v allocations, want at most %d", name, got, maxParseAllocs)
		}
	}
}
