package config

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// What stands for a secret in an excerpt.
const redacted = "[redacted]"

// isSecretKey reports whether what stands under key is a secret, in whatever
// object.
func isSecretKey(key string) bool {
	switch fold(key) {
	case "inline", "authtoken", "token", "accesstoken", "bearertoken", "password", "passwd", "apikey", "secretkey", "accesskey",
		"sessiontoken", "clientsecret", "privatekey", "stringdata",
		"users": // of basicAuthentication: hashes of passwords
		return true
	}
	return isSecretHeader(key)
}

// isSecretHeader reports whether a header of that name holds a credential.
func isSecretHeader(name string) bool {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token":
		return true
	}
	return false
}

// maskSecrets notes which parts of the source of n, an object of kind, are secrets:
// the data of a Secret, credentials and the environment of programs.
func maskSecrets(src *source, n *node, kind string) {
	if distance(kind, "Secret") <= 2 { // all that might be data, in whatever spelling
		for key, f := range n.fields {
			if key != "apiVersion" && key != "kind" && key != "metadata" && key != "type" {
				maskAll(src, f)
			}
		}
	}
	maskBelow(src, n)
}

// maskBelow masks what is secret by the names of fields.
func maskBelow(src *source, n *node) {
	for key, f := range n.fields {
		switch {
		case (key == "auth" || key == "authToken") && f.kind == yaml.MappingNode:
			// An object that holds a credential, maybe under a misspelt name.
			maskAll(src, f)
			continue
		case isSecretKey(key), n.fields["command"] != nil && distance(key, "env") <= 1:
			maskAll(src, f)
			continue
		case key == "value" && n.fields["name"] != nil && (isSecretHeader(n.fields["name"].value) || isSecretKey(n.fields["name"].value)):
			maskAll(src, f)
			continue
		}
		maskBelow(src, f)
	}
	for _, item := range n.items {
		maskBelow(src, item)
	}
}

// maskAll masks all that n holds. References to Secrets are none.
func maskAll(src *source, n *node) {
	for key, f := range n.fields {
		if key != "secretRef" && key != "kind" && key != "name" {
			maskAll(src, f)
		}
	}
	for _, item := range n.items {
		maskAll(src, item)
	}
	if n.kind != yaml.ScalarNode || n.value == "" {
		return
	}
	first := place{n.line, n.column}
	places := src.places(n.scalar)
	if places == nil { // not understood: all that is indented further
		last := first.line
		for last < len(src.starts) && indentation(src.line(last+1)) > indentation(src.line(first.line)) {
			last++
		}
		src.mask(first, place{last, utf8.RuneCountInString(src.line(last)) + 1})
		return
	}
	last := places[len(places)-1]
	if n.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		last.column++
	}
	if n.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		first = places[0]
	}
	src.mask(first, last)
}

// indentation returns how many spaces and tabs a line begins with. That of an empty
// line is endless.
func indentation(line string) int {
	trimmed := strings.TrimLeft(line, " \t")
	if trimmed == "" {
		return 1 << 30
	}
	return len(line) - len(trimmed)
}

// What is secret in a line wherever it stands: values of keys that hold
// credentials, what a header is compared with, bearer tokens, API keys, hashes of passwords, and user and
// password of a URL.
var (
	secretValue   = regexp.MustCompile(`(?i)["']?([A-Za-z_-]+)["']?\s*:\s+("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,{}\[\]][^,}\]]*)`)
	headerLiteral = regexp.MustCompile(`(?i)headers\s*\[\s*\\?["']([A-Za-z0-9-]+)\\?["']\s*\]\s*(?:==|!=|in|\.\w+\()\s*(\[?\\?(?:"[^"]*"?|'[^']*'?))`)
	bearerToken   = regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{6,})`)
	knownKey      = regexp.MustCompile(`\b((?:sk|pk|ghp|gho|xox[bp]|AKIA|ASIA|AIza|eyJ)[-_A-Za-z0-9.]{8,})`)
	passwordHash  = regexp.MustCompile(`((?:\$(?:apr1|2[abxy]|[156])\$|\{S?SHA\})[^\s"',\]}]+)`)
	urlUser       = regexp.MustCompile(`://([^\s"'/@]+)@`)
	bareUser      = regexp.MustCompile(`[^\s"'/@:]+:([^\s"'/@:]+)@`)
	lineKey       = regexp.MustCompile(`^[\s-]*["']?([A-Za-z0-9._/-]+)["']?\s*:(?:\s|$)`)
)

// secretSpans returns the parts of line n that must not be shown, sorted, in
// characters from 0.
func (s *source) secretSpans(n int) []span {
	text := s.line(n)
	out := slices.Clone(s.masks[n])
	add := func(from, to int) {
		out = append(out, span{utf8.RuneCountInString(text[:from]), utf8.RuneCountInString(text[:to])})
	}
	for _, m := range headerLiteral.FindAllStringSubmatchIndex(text, -1) {
		if isSecretHeader(text[m[2]:m[3]]) {
			add(m[4], m[5])
		}
	}
	for _, re := range []*regexp.Regexp{bearerToken, knownKey, passwordHash, urlUser, bareUser} {
		for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
			add(m[2], m[3])
		}
	}
	for _, doc := range s.unparsed {
		if n >= doc.from && n < doc.to {
			for _, m := range secretValue.FindAllStringSubmatchIndex(text, -1) {
				if key := text[m[2]:m[3]]; isSecretKey(key) {
					add(m[4], m[5])
				}
			}
			if from, secret := s.guess(doc, n); secret {
				add(from, len(text))
			}
		}
	}
	slices.SortFunc(out, func(a, b span) int { return a.from - b.from })
	merged := out[:0]
	for _, m := range out {
		if last := len(merged) - 1; last >= 0 && m.from <= merged[last].to {
			merged[last].to = max(merged[last].to, m.to)
			continue
		}
		merged = append(merged, m)
	}
	return merged
}

// guess tells from the lines around line n, of a document that is not YAML, whether
// it holds a secret, and from which byte on.
func (s *source) guess(doc span, n int) (from int, secret bool) {
	text := s.line(n)
	from = len(text) - len(strings.TrimLeft(text, " \t"))
	own := ""
	if strings.HasPrefix(text, "---") {
		return 0, false
	}
	if m := lineKey.FindStringSubmatchIndex(text); m != nil {
		own, from = text[m[2]:m[3]], m[1]
	}
	for i := doc.from; i < doc.to; i++ {
		if m := lineKey.FindStringSubmatch(s.line(i)); m != nil && m[1] == "kind" && strings.Contains(s.line(i), "Secret") {
			switch own {
			case "apiVersion", "kind", "metadata", "name", "namespace", "type", "data", "stringData":
				return 0, false
			}
			return from, true
		}
	}
	level := indentation(text)
	for i := n - 1; i >= doc.from && level > 0; i-- {
		above := s.line(i)
		if indentation(above) >= level {
			continue
		}
		level = indentation(above)
		m := lineKey.FindStringSubmatch(above)
		if m == nil {
			continue
		}
		if key := m[1]; isSecretKey(key) || key == "env" || key == "data" {
			if own == "kind" || own == "secretRef" || own == "name" {
				return 0, false
			}
			return from, true
		}
	}
	return 0, false
}
