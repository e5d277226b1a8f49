package guard

import "testing"

// BenchmarkStream is one chunk of a stream, as models send them.
func BenchmarkStream(b *testing.B) {
	for _, bb := range []struct {
		name   string
		x      *Regex
		pieces []string
	}{
		{"words/5 builtins", all(b), []string{"The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".\n"}},
		{"digits/5 builtins", all(b), []string{"41", "11 ", "1111", " 1111", " 1111", " and ", "1", "23-45", "-6789", " end "}},
		{"words/1 pattern", regexOf(b, []Pattern{{`sk-[A-Za-z0-9]{20,}`, "key"}}), []string{"The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".\n"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := bb.x.NewStream()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Write(bb.pieces[i%len(bb.pieces)])
			}
		})
	}
}

// BenchmarkPhones is the worst that a text can be for the phone numbers: nothing but groups
// of digits.
func BenchmarkPhones(b *testing.B) {
	x := regexOf(b, nil, PhoneNumber)
	text := ""
	for range 100 {
		text += "1234 99 "
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		x.Mask(text)
	}
}
