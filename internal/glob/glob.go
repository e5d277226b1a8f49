// Package glob matches names against patterns, as configuration writes them for models and paths.
package glob

import "strings"

// Match reports whether all of s is what pattern says, in which * stands for any text, none included.
func Match(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
		rest = more
	}
}
