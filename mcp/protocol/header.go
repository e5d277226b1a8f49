package protocol

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The sentinel around a value in base64.
const (
	base64Prefix = "=?base64?"
	base64Suffix = "?="
)

// EncodeHeader returns s as the value of an Mcp-Name or Mcp-Param header: itself
// when it is plain printable ASCII without outer spaces that does not look
// encoded, else its UTF-8 bytes in the =?base64?…?= form (2026-07-28, Streamable
// HTTP, Value Encoding). The empty string, which as a header could not be told
// from a missing one, is encoded too.
func EncodeHeader(s string) string {
	if s != "" && printable(s) && s[0] != ' ' && s[len(s)-1] != ' ' && !sentinel(s) {
		return s
	}
	return base64Prefix + base64.StdEncoding.EncodeToString([]byte(s)) + base64Suffix
}

// DecodeHeader reverses EncodeHeader. A value without the exact prefix and suffix
// stands for itself. ok is false when v cannot be the value of a header, or its
// base64 is not the canonical form of valid UTF-8.
func DecodeHeader(v string) (s string, ok bool) {
	if !sentinel(v) || len(v) < len(base64Prefix)+len(base64Suffix) {
		return v, printable(strings.ReplaceAll(v, "\t", " "))
	}
	b64 := v[len(base64Prefix) : len(v)-len(base64Suffix)]
	if strings.ContainsAny(b64, "\r\n") { // which the decoder skips
		return "", false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || !utf8.Valid(b) {
		return "", false
	}
	return string(b), true
}

// sentinel reports whether v begins and ends like an encoded value.
func sentinel(v string) bool {
	return strings.HasPrefix(v, base64Prefix) && strings.HasSuffix(v, base64Suffix)
}

// printable reports whether s is made of printable ASCII and spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// HeaderEqualsParam reports whether the value of an Mcp-Param header says the
// same as the raw JSON value of the argument that it mirrors (2026-07-28,
// Streamable HTTP, Server Validation). Strings are equal byte for byte once the
// header is decoded, booleans are true or false, and integers, which must be
// within the range that JavaScript holds exactly, are compared as numbers, so
// that 42.0 equals 42. Other values are never equal: what is null or absent has
// no header.
func HeaderEqualsParam(header string, value []byte) bool {
	s, ok := DecodeHeader(strings.Trim(header, " \t")) // white space around a value is no part of it
	if !ok || len(value) == 0 {
		return false
	}
	switch value[0] {
	case '"':
		v, ok := text(value)
		return ok && string(v) == s
	case 't', 'f':
		return string(value) == s
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		h, ok := safeInteger(s)
		if !ok {
			return false
		}
		v, ok := safeInteger(string(value))
		return ok && h == v
	default:
		return false
	}
}

// HeaderOfParam returns the value of the Mcp-Param header that mirrors the raw
// JSON value of an argument (2026-07-28, Streamable HTTP, Value Encoding); ok is
// false for a value that has none: null, absent, or no string, boolean or
// integer in the range that JavaScript holds exactly.
func HeaderOfParam(value []byte) (header string, ok bool) {
	if len(value) == 0 {
		return "", false
	}
	switch value[0] {
	case '"':
		s, ok := text(value)
		return EncodeHeader(string(s)), ok
	case 't', 'f':
		return string(value), true
	case 'n', '{', '[':
		return "", false
	default:
		n, ok := safeInteger(string(value))
		return strconv.FormatInt(n, 10), ok
	}
}

// maxSafeInteger is the largest integer below which all are exact in a double.
const maxSafeInteger = 1<<53 - 1

// safeInteger returns the value of a JSON number that is an integer, however it
// is written (42, 42.0, 4.2e1), and at most maxSafeInteger from zero.
func safeInteger(s string) (int64, bool) {
	if !numeric(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxSafeInteger {
		return 0, false
	}
	return int64(f), true
}

// numeric reports whether s has the form of a JSON number (RFC 8259, section 6).
func numeric(s string) bool {
	digits := func() bool {
		n := len(s)
		s = strings.TrimLeft(s, "0123456789")
		return len(s) < n
	}
	s = strings.TrimPrefix(s, "-")
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' || !digits() {
		return false
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if s = rest; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		return digits() && s == ""
	}
	return s == ""
}
