package federation

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// The bounds of client-visible names. The default leaves room for the prefix
// mcp__<server>__ that some clients put before a name within the 64 characters
// that most model providers accept.
const (
	defaultNameLength = 48
	maxNameLength     = 64
	minNameLength     = 16 // of a configured limit: the hash and something to read
)

// maxOwnName bounds the name that a target gives a tool or prompt. What is
// longer is no name (2025-11-25, Tools, Tool Names recommends 128).
const maxOwnName = 1024

// A naming turns the names and URIs of targets into the ones that clients see,
// for one configuration of a backend. It is immutable. Names are never parsed
// back: they are looked up in the catalogue.
type naming struct {
	bare   bool // names and URIs are the target's own
	length int
	// prefixes are the URI prefixes of the targets, by name, without the plus.
	prefixes map[string]string
	targets  map[string]string // the inverse of prefixes
}

func newNaming(cfg *Config) *naming {
	n := &naming{
		bare:     cfg.PrefixMode == Never || cfg.PrefixMode == Conditional && len(cfg.Targets) == 1,
		length:   min(cfg.MaxNameLength, maxNameLength),
		prefixes: make(map[string]string, len(cfg.Targets)),
		targets:  make(map[string]string, len(cfg.Targets)),
	}
	if n.length <= 0 {
		n.length = defaultNameLength
	}
	n.length = max(n.length, minNameLength)
	for i := range cfg.Targets {
		if name := cfg.Targets[i].Name; letter(name) {
			n.prefixes[name], n.targets[name] = name, name
		}
	}
	// A URI scheme begins with a letter (RFC 3986, section 3.1).
	for i := range cfg.Targets {
		name := cfg.Targets[i].Name
		if letter(name) {
			continue
		}
		prefix := "t-" + name
		for n.targets[prefix] != "" {
			prefix = "t-" + prefix
		}
		n.prefixes[name], n.targets[prefix] = prefix, name
	}
	return n
}

// scope names the part of the naming that the prepared bytes of one target's
// items depend on, so that equal scopes share them.
func (n *naming) scope(target string) scope {
	return scope{bare: n.bare, length: n.length, prefix: n.prefixes[target], target: target}
}

// targetOf returns the target whose prefix the client-visible URI carries, and
// the URI as that target has it.
func (n *naming) targetOf(uri string) (target, own string, ok bool) {
	if rest, isUI := strings.CutPrefix(uri, "ui://"); isUI {
		prefix, own, ok := strings.Cut(rest, "+")
		target, known := n.targets[prefix]
		return target, "ui://" + own, ok && known
	}
	prefix, own, ok := strings.Cut(uri, "+")
	target, known := n.targets[prefix]
	return target, own, ok && known && own != ""
}

// A scope is how one target's names and URIs are shown.
type scope struct {
	bare   bool
	length int
	prefix string
	target string
}

// name returns the client-visible name of the target's tool or prompt:
// <target>_<name>, or the bare name. It matches ^[a-zA-Z0-9_-]+$ and is at most
// as long as the scope allows; where that takes any change, it ends in _ and 8
// hex digits of SHA-256(target NUL name).
func (s scope) name(own string) string {
	full := own
	if !s.bare {
		full = s.target + "_" + own
	}
	if len(full) <= s.length && plainName(full) {
		return full
	}
	sum := sha256.Sum256([]byte(s.target + "\x00" + own))
	b := make([]byte, 0, s.length)
	for i := 0; i < len(full) && len(b) < s.length-9; i++ {
		c := full[i]
		if !nameByte(c) {
			c = '_'
		}
		b = append(b, c)
	}
	b = append(b, '_')
	return string(hex.AppendEncode(b, sum[:4]))
}

// uri returns the client-visible form of a URI or URI template of the target:
// <target>+<uri>, or ui://<target>+… for apps, whose scheme hosts look at.
func (s scope) uri(own string) string {
	if s.bare || own == "" {
		return own
	}
	if rest, isUI := strings.CutPrefix(own, "ui://"); isUI {
		return "ui://" + s.prefix + "+" + rest
	}
	return s.prefix + "+" + own
}

// own returns the URI that the target has for a client-visible one, which is left
// as it is when it is not of this target.
func (s scope) own(uri string) string {
	if s.bare {
		return uri
	}
	if rest, isUI := strings.CutPrefix(uri, "ui://"+s.prefix+"+"); isUI {
		return "ui://" + rest
	}
	return strings.TrimPrefix(uri, s.prefix+"+")
}

func plainName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func letter(s string) bool {
	return s != "" && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
}

// sameTargets reports whether two configurations have the same targets in the
// same order.
func sameTargets(a, b []session.TargetConfig) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Identity != b[i].Identity {
			return false
		}
	}
	return true
}
