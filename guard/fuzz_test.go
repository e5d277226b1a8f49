package guard

import (
	"slices"
	"testing"
)

type failer interface {
	Fatalf(format string, args ...any)
}

// checkSplit checks that a text in pieces is masked as the whole is.
func checkSplit(t failer, x *Regex, text string, cuts []int) {
	slices.Sort(cuts)
	want, _ := x.Mask(text)
	s := x.NewStream()
	got, at := "", 0
	for _, c := range append(cuts, len(text)) {
		out, _ := s.Write(text[at:c])
		got += out
		at = c
	}
	out, _ := s.Close()
	if got += out; got != want {
		t.Fatalf("%q cut at %v is %q, want %q", text, cuts, got, want)
	}
}

// FuzzStream: a text in pieces is masked as the whole is, and what is masked stays as it is.
func FuzzStream(f *testing.F) {
	for i, c := range custom {
		for _, text := range c.texts {
			f.Add(text, byte(i), uint16(2), uint16(3))
		}
	}
	f.Add("card 5105105105105100, mail bob@example.com +44 20 7946 0958 123-45-6789 046 454 286", byte(255), uint16(9), uint16(40))
	var regexes []*Regex
	for _, c := range custom {
		regexes = append(regexes, regexOf(f, []Pattern{{c.pattern, ""}}))
	}
	regexes = append(regexes, all(f))
	f.Fuzz(func(t *testing.T, text string, which byte, a, b uint16) {
		if len(text) > MaxHeld {
			return // what is longer is masked whole
		}
		x := regexes[min(int(which), len(regexes)-1)]
		checkSplit(t, x, text, []int{int(a) % (len(text) + 1), int(b) % (len(text) + 1)})
		if int(which) < len(custom) {
			return
		}
		once, _ := x.Mask(text)
		if twice, _ := x.Mask(once); twice != once {
			t.Fatalf("%q is masked as %q, and that as %q", text, once, twice)
		}
	})
}

// FuzzPattern: the streams of any pattern find what the standard library does.
func FuzzPattern(f *testing.F) {
	for _, c := range custom {
		f.Add(c.pattern, c.texts[0], uint16(3))
	}
	f.Fuzz(func(t *testing.T, pattern, text string, cut uint16) {
		x, err := NewRegex(Mask, []Pattern{{pattern, ""}}, nil)
		if err != nil || len(text) > 200 || len(pattern) > 60 {
			return
		}
		checkSplit(t, x, text, []int{int(cut) % (len(text) + 1)})
	})
}
