// Package secret holds values that must never be printed: tokens, keys,
// passwords. A [Value] is the only type in mcpgw that holds one once it has been
// read from a resource, so a log line, an error, a config dump or a JSON answer
// can show that a secret is there but never what it is.
//
// Code that has to send a secret calls [Value.Reveal], at the last moment, and
// nothing else does. It is a leaf: it imports the standard library only.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every printed form of a [Value] shows.
const Redacted = "[redacted]"

// A Value is a secret string. The zero Value is an empty secret. Values are
// immutable and safe for concurrent use; two Values are compared with
// [Value.Equal], in constant time, and never with ==.
type Value struct {
	// s is a pointer because package fmt prints unexported fields of other types
	// without asking their methods; of a pointer it prints the address.
	s *string
	_ [0]func() // so that == does not compile
}

// New returns s as a secret.
func New(s string) Value { return Value{s: &s} }

// Reveal returns the secret itself. Its result belongs on the wire and nowhere
// else.
func (v Value) Reveal() string {
	if v.s == nil {
		return ""
	}
	return *v.s
}

// IsZero reports whether the secret is empty.
func (v Value) IsZero() bool { return v.Reveal() == "" }

// Equal reports whether both hold the same secret, in time that depends only on
// their lengths.
func (v Value) Equal(o Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(o.Reveal())) == 1
}

// String prints [Redacted]. It implements [fmt.Stringer].
func (v Value) String() string { return Redacted }

// GoString prints [Redacted], for the %#v verb.
func (v Value) GoString() string { return Redacted }

// Format prints [Redacted] for any verb, also those that do not ask String. It
// implements [fmt.Formatter].
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue logs [Redacted]. It implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText encodes [Redacted], for JSON, YAML and text encoders.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
