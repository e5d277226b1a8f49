package protocol

// EncodeHeader returns s as the value of an MCP header: itself when it is plain
// printable ASCII without outer spaces, else the =?base64?…?= form (2026-07-28,
// Transports, Header encoding).
func EncodeHeader(s string) string { panic("unwritten") }

// DecodeHeader reverses EncodeHeader; ok is false when v is not a valid value.
func DecodeHeader(v string) (s string, ok bool) { panic("unwritten") }
