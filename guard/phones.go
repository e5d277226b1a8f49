package guard

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// Limits of what can be a phone number.
const (
	phoneLength  = 31 // bytes from its first digit to its last
	fewestDigits = 7
	mostDigits   = 15 // ITU-T E.164
	// mostChecks is how often one text is looked up in the plans of numbers, which is slow. In what comes
	// then everything that is as long as a number counts as one.
	mostChecks = 1 << 14
)

// phoneRegions are the countries in which a number without country code is tried. What is one
// in Canada is one in the United States, too: they share a code.
var phoneRegions = [...]string{"US", "GB", "DE", "IL", "IN", "BR"}

// A phoneFinder finds phone numbers in a text that comes in pieces: from each group of
// digits the longest number that ends with a group, not farther than phoneLength.
type phoneFinder struct {
	pos  int  // what comes next
	from int  // behind the number before
	prev byte // before pos
	held int  // where a number could begin, -1 for none
	left int  // how many checks

	run bool // of a loose finder: what it read last can be in a number
}

func newPhoneFinder() *phoneFinder { return &phoneFinder{held: -1, left: mostChecks} }

func (f *phoneFinder) settled() int {
	if f.held >= 0 {
		return f.held
	}
	return f.pos
}

// advance is that of [machine].
func (f *phoneFinder) advance(spans []span, buf []byte, base int, final bool) []span {
	f.held = -1
	for f.pos-base < len(buf) {
		i := f.pos - base
		c := buf[i]
		if !isDigit(c) {
			if (c == '+' || c == '(') && i+1 == len(buf) && !final {
				f.held = f.pos
				return spans
			}
			f.prev = c
			f.pos++
			continue
		}
		if isDigit(f.prev) {
			f.pos++
			continue
		}
		start := i
		if (f.prev == '+' || f.prev == '(') && f.pos > f.from {
			start--
		}
		end, known := runFrom(buf[i:])
		if !known && !final {
			f.held = base + start
			return spans
		}
		length := 0
		if n := f.longest(buf[start : i+end]); n > 0 {
			length = n - (i - start)
			spans = append(spans, span{base + start, base + start + n})
			f.from = base + start + n
		}
		if length == 0 {
			for i+length < len(buf) && isDigit(buf[i+length]) {
				length++
			}
		}
		f.prev = buf[i+length-1]
		f.pos = base + i + length
	}
	return spans
}

// runFrom returns how far from its first digit a number can go, and whether that is
// known: a group that is not cut ends there.
func runFrom(b []byte) (end int, known bool) {
	for i, c := range b {
		if i > phoneLength || !inPhone(c) {
			break
		}
		if isDigit(c) && i < phoneLength && (i+1 == len(b) || !isDigit(b[i+1])) {
			end = i + 1
		}
	}
	n := 0
	for n < len(b) && n <= phoneLength && inPhone(b[n]) {
		n++
	}
	return end, n < len(b) || n > phoneLength
}

// longest returns the length of the number that b begins with and that ends with a group
// of digits, 0 if there is none: all of b, or the longest one of the first region that has
// any, since two numbers may follow each other.
func (f *phoneFinder) longest(b []byte) int {
	var ends []int // of groups, longest first, of as many digits as a number has
	digits := 0
	for i, c := range b {
		if !isDigit(c) {
			continue
		}
		digits++
		if (i+1 == len(b) || !isDigit(b[i+1])) && fewestDigits <= digits && digits <= mostDigits {
			ends = append(ends, i+1)
		}
	}
	slices.Reverse(ends)
	if len(ends) == 0 {
		return 0
	}
	candidate := strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\f' || r == '\r' {
			return ' '
		}
		return r
	}, string(b))
	regions := phoneRegions[:]
	if candidate[0] == '+' {
		regions = regions[:1] // it names its country
	}
	if ends[0] == len(b) && slices.ContainsFunc(regions, func(r string) bool { return f.isPhone(candidate, r) }) {
		return len(b)
	}
	for _, region := range regions {
		for _, end := range ends {
			if end < len(b) && f.isPhone(candidate[:end], region) {
				return end
			}
		}
	}
	return 0
}

// isPhone reports whether a candidate is a valid number in a region.
func (f *phoneFinder) isPhone(candidate, region string) bool {
	if f.left == 0 {
		return true
	}
	f.left--
	n, err := phonenumbers.Parse(candidate, region)
	return err == nil && phonenumbers.IsValidNumber(n)
}

// phonesIn returns the numbers in a whole text.
func phonesIn(text string) []span {
	if !strings.ContainsAny(text, "0123456789") {
		return nil
	}
	return newPhoneFinder().advance(nil, []byte(text), 0, true)
}

func (f *phoneFinder) restart(pos int, prev rune) {
	*f = phoneFinder{pos: pos, from: pos, held: -1, left: f.left}
	if prev >= 0 && prev < utf8.RuneSelf {
		f.prev = byte(prev)
	}
}

// loosen is that of [machine].
func (f *phoneFinder) loosen(buf []byte, base int, prev rune) {
	f.restart(base+len(buf), prev)
	f.run = len(buf) > 0 && canBegin(rune(buf[len(buf)-1]))
}

func (f *phoneFinder) swallow(r rune, width int) {
	f.pos += width
	f.run = canBegin(r)
}

func (f *phoneFinder) quiet() bool { return !f.run }

// canBegin reports whether a number can have begun with or before r and go on.
func canBegin(r rune) bool {
	return r == '+' || r < utf8.RuneSelf && inPhone(byte(r))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// inPhone reports whether c can stand in a number behind its first digit.
func inPhone(c byte) bool {
	return isDigit(c) || strings.IndexByte(" \t\n\f\r().-", c) >= 0
}
