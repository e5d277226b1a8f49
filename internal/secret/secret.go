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
	"log/slog"
)

// Redacted is what every printed form of a [Value] shows.
const Redacted = "[redacted]"

// A Value is a secret string. The zero Value is an empty secret. Values are
// immutable and safe for concurrent use; two Values are compared with
// [Value.Equal], in constant time.
type Value struct{ s string }

// New returns s as a secret.
func New(s string) Value { return Value{s: s} }

// Reveal returns the secret itself. Its result belongs on the wire and nowhere
// else.
func (v Value) Reveal() string { return v.s }

// IsZero reports whether the secret is empty.
func (v Value) IsZero() bool { return v.s == "" }

// Equal reports whether both hold the same secret, in time that depends only on
// their lengths.
func (v Value) Equal(o Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.s), []byte(o.s)) == 1
}

// String prints [Redacted]. It implements [fmt.Stringer].
func (v Value) String() string { return Redacted }

// GoString prints [Redacted], for the %#v verb.
func (v Value) GoString() string { return Redacted }

// LogValue logs [Redacted]. It implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText encodes [Redacted], for JSON, YAML and text encoders.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
