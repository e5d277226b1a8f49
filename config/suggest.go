package config

import (
	"slices"
	"strings"
)

// separators are what words are compared without.
var separators = strings.NewReplacer("_", "", "-", "", ".", "")

// fold returns s as words are compared.
func fold(s string) string { return strings.ToLower(separators.Replace(s)) }

// Suggest returns the one of known that was probably meant by word, or "". Known
// words that are equally near are none. The command line asks it, too, so that
// there is one idea of what is near.
func Suggest(word string, known []string) string {
	best, bestDistance, tie := "", max(1, min(3, len(word)/3))+1, false
	for _, k := range known {
		if fold(k) == fold(word) {
			return k
		}
		d := distance(fold(word), fold(k))
		switch {
		case d < bestDistance:
			best, bestDistance, tie = k, d, false
		case d == bestDistance:
			tie = true
		}
	}
	if tie {
		return ""
	}
	if best != "" || len(word) < 4 {
		return best
	}
	// One that the word begins with, or that has it as a part, if it is the only such.
	for _, like := range []func(k string) bool{
		func(k string) bool {
			return strings.HasPrefix(fold(word), fold(k)) || strings.HasPrefix(fold(k), fold(word))
		},
		func(k string) bool {
			return strings.Contains(fold(word), fold(k)) || strings.Contains(fold(k), fold(word))
		},
	} {
		with := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return len(k) < 4 || !like(k) })
		if len(with) == 1 {
			return with[0]
		}
	}
	return ""
}

// distance returns how many letters have to be added, left out, replaced or swapped
// with their neighbour to make b of a. Words of more than 64 bytes are taken as
// far from everything.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var rows [3][65]int
	before, last, row := rows[0][:], rows[1][:], rows[2][:]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// listed returns words as a sentence lists them.
func listed(words []string) string { return strings.Join(words, ", ") }
