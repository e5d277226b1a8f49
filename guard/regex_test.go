package guard

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func all(t testing.TB) *Regex {
	t.Helper()
	return regexOf(t, nil, SSN, CreditCard, PhoneNumber, Email, CaSin)
}

func regexOf(t testing.TB, patterns []Pattern, builtins ...Builtin) *Regex {
	t.Helper()
	x, err := NewRegex(Mask, patterns, builtins)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestMask(t *testing.T) {
	for _, tt := range []struct {
		builtin  Builtin
		in, want string
	}{
		{SSN, "a 123-45-6789 b", "a <SSN> b"},
		{SSN, "12345-6789, 123-456789, 123456789, 123.45.6789, 123 45 6789", "<SSN>, <SSN>, <SSN>, <SSN>, <SSN>"},
		{SSN, "1234567890 and 12345678", "1234567890 and 12345678"},
		{CreditCard, "my card is 4111 1111 1111 1111", "my card is <CREDIT_CARD>"},
		{CreditCard, "5105105105105100,3782-822463-10005", "<CREDIT_CARD>,<CREDIT_CARD>"},
		{CreditCard, "56001111", "56001111"},
		{Email, "mail bob@example.com, please", "mail <EMAIL_ADDRESS>, please"},
		{Email, "bob@example.com.", "<EMAIL_ADDRESS>"},
		{Email, "bob@example", "bob@example"},
		{CaSin, "046 454 286 or 046-454-286 or 046454286", "<CA_SIN> or <CA_SIN> or <CA_SIN>"},
		{PhoneNumber, "call 202-555-0143 now", "call <PHONE_NUMBER> now"},
		{PhoneNumber, "(202) 555-0143", "<PHONE_NUMBER>"},
		{PhoneNumber, "+44 20 7946 0958.", "<PHONE_NUMBER>."},
		{PhoneNumber, "+49 30 901820", "<PHONE_NUMBER>"},
		{PhoneNumber, "202-555-0143 202-555-0144\n202-555-0145", "<PHONE_NUMBER> <PHONE_NUMBER>\n<PHONE_NUMBER>"},
		{PhoneNumber, "order 12-3", "order 12-3"},
		{PhoneNumber, "416-555-0143", "<PHONE_NUMBER>"},
		{PhoneNumber, strings.Repeat("1", 40), strings.Repeat("1", 40)},
	} {
		if got, found := regexOf(t, nil, tt.builtin).Mask(tt.in); got != tt.want || found != (tt.in != tt.want) {
			t.Errorf("%s: %q is masked as %q (%v), want %q", tt.builtin, tt.in, got, found, tt.want)
		}
	}
}

// Patterns of all sorts, with texts that they find something in.
var custom = []struct {
	pattern string
	texts   []string
}{
	{`secret`, []string{"a secret here", "secretsecret", "sesecret"}},
	{`^key-\d+`, []string{"key-123", "a key-123", "key-1 key-2"}},
	{`\d+$`, []string{"end 123", "12 34", "12\n"}},
	{`(?m)^pw: .*$`, []string{"pw: x\npw: yz\nno pw: a", "pw: ", "a\npw: b"}},
	{`\bfoo\b`, []string{"foo", "foo bar foo", "foobar food foo"}},
	{`\Boo\B`, []string{"foobar oo food"}},
	{`ab|abcd|cd`, []string{"abcd", "abcabcd", "cdab"}},
	{`abcd|ab`, []string{"abcd abc ab", "ab"}},
	{`a+?b`, []string{"aaab ab b", "aab"}},
	{`a[^x]*z|a|bxc`, []string{"a..bxc", "a..z bxc", "abxc"}},
	{`sk-[A-Za-z0-9]{8,}`, []string{"key sk-abcdefgh12 end", "sk-short sk-longenough"}},
	{`(?i)password\s*[:=]\s*\S+`, []string{"PassWord = hunter2 ok", "password:x"}},
	{`BEGIN[\s\S]*?END`, []string{"x BEGIN a END b END", "BEGIN END BEGIN", "BEGINBEGIN ENDEND"}},
	{`é+|日本?`, []string{"caféé 日本 日 本", "日é"}},
	{`x*`, []string{"xx y xxx", "y"}},
	{`(|a)b*`, []string{"abb bb a", "bbb"}},
	{`[A-Z]{2,}`, []string{"AB <SSN> CD", "ABC"}},
	{`<[a-z]+>?`, []string{"<masked> <b", "<a><"}},
	{`.{3}\z`, []string{"abcdef", "ab"}},
	{`(?s).`, []string{"a\nb"}},
}

// split writes a text to a stream in the pieces that cuts say.
func split(t testing.TB, x *Regex, text string, cuts ...int) string {
	t.Helper()
	s := x.NewStream()
	var b strings.Builder
	at := 0
	for _, c := range append(cuts, len(text)) {
		out, rejected := s.Write(text[at:c])
		if rejected {
			t.Fatalf("%q is rejected", text)
		}
		b.WriteString(out)
		at = c
	}
	out, _ := s.Close()
	if s.Held() {
		t.Errorf("%q: something is held at the end", text)
	}
	return b.String() + out
}

// Each text of each pattern, cut in two, in three and into bytes.
func TestStreamIsWhole(t *testing.T) {
	try := func(x *Regex, text string) {
		t.Helper()
		want, _ := x.Mask(text)
		var each []int
		for i := range len(text) + 1 {
			each = append(each, i)
			if got := split(t, x, text, i); got != want {
				t.Fatalf("%q cut at %d is %q, want %q", text, i, got, want)
			}
			for j := i; j <= len(text); j++ {
				if got := split(t, x, text, i, j); got != want {
					t.Fatalf("%q cut at %d and %d is %q, want %q", text, i, j, got, want)
				}
			}
		}
		if got := split(t, x, text, each...); got != want {
			t.Fatalf("%q byte by byte is %q, want %q", text, got, want)
		}
	}
	for _, c := range custom {
		x := regexOf(t, []Pattern{{c.pattern, ""}})
		for _, text := range c.texts {
			try(x, text)
		}
	}
	for _, text := range []string{
		"a 123-45-6789 b", "123 45 6789", "12345-6789-1234", "card 5105105105105100, mail bob@example.com",
		"bob@example.com. é", "4111-1111-1111-1111x 4111 1111 1111 1111", "046 454 286", "(202) 555-0143 é",
		"+44 20 7946 0958", "+", "(2", "202-555-0143 202-555-0144", "é+1 202 555 0143é",
	} {
		try(all(t), text)
	}
}

// What a client has at any time never holds a secret, nor its beginning that only a match
// could follow.
func TestNothingEarly(t *testing.T) {
	x := all(t)
	for _, secret := range []string{"123-45-6789", "4111 1111 1111 1111", "bob@example.com", "046 454 286", "+44 20 7946 0958"} {
		text := "it is " + secret
		for i := range len(text) {
			s := x.NewStream()
			a, _ := s.Write(text[:i])
			b, _ := s.Write(text[i:])
			if !strings.HasPrefix("it is ", a+b) {
				t.Errorf("%q cut at %d gives out %q and %q before it is known what it is", text, i, a, b)
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	x := regexOf(t, []Pattern{{`BEGIN[^#]*END`, "key"}})
	for _, tt := range []struct{ name, in, want string }{
		{"at the limit", "a BEGIN" + strings.Repeat("x", MaxHeld-5) + "#b", "a BEGIN" + strings.Repeat("x", MaxHeld-5) + "#b"},
		{"over it", "a BEGIN" + strings.Repeat("x", MaxHeld) + "#b", "a <key>b"},
		{"a match", "a BEGIN" + strings.Repeat("x", 3*MaxHeld) + "END#b BEGINENDb", "a <key>b <key>b"},
		{"one that the masked hides", "a BEGIN" + strings.Repeat("x", 2*MaxHeld) + "BEGIN#BEGINEND", "a <key><key>"},
		{"no end", "a BEGIN" + strings.Repeat("é", MaxHeld), "a <key>"},
	} {
		for _, n := range []int{1, 7, 4096, len(tt.in)} {
			s := x.NewStream()
			var b strings.Builder
			for at := 0; at < len(tt.in); at += n {
				out, _ := s.Write(tt.in[at:min(at+n, len(tt.in))])
				b.WriteString(out)
				if held := len(s.stages[0].buf); held > MaxHeld {
					t.Fatalf("%s: %d bytes are held", tt.name, held)
				}
			}
			out, _ := s.Close()
			if got := b.String() + out; n == 1 && got != tt.want {
				t.Errorf("%s, by %d: %.80q, want %.80q", tt.name, n, got, tt.want)
			}
		}
	}
}

func TestReject(t *testing.T) {
	x, err := NewRegex(Reject, []Pattern{{"secret", ""}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, rejected := x.Check("a secret b"); !rejected {
		t.Error("a match is not rejected")
	}
	s := x.NewStream()
	a, no := s.Write("a sec")
	_, yes := s.Write("ret b")
	if a != "a " || no || !yes {
		t.Errorf("the stream gives out %q, rejects %v and %v", a, no, yes)
	}
}

func TestMistakes(t *testing.T) {
	for _, p := range []string{"a(?=b)", "*", strings.Repeat("a", maxExpression+1)} {
		if _, err := NewRegex(Mask, []Pattern{{p, ""}}, nil); err == nil || !strings.HasPrefix(err.Error(), "matches[0].pattern: ") {
			t.Errorf("%.20q compiles: %v", p, err)
		}
	}
	if _, err := NewRegex(Mask, nil, []Builtin{"IBAN"}); err == nil {
		t.Error("there is no IBAN")
	}
}

// Rules that are applied in order, cut at random.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var patterns []Pattern
		for range rapid.IntRange(1, 4).Draw(t, "patterns") {
			i := rapid.IntRange(0, len(custom)-1).Draw(t, "pattern")
			patterns = append(patterns, Pattern{custom[i].pattern, fmt.Sprintf("P%d", i)})
		}
		x, err := NewRegex(Mask, patterns, []Builtin{SSN, Email, PhoneNumber})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for range rapid.IntRange(0, 6).Draw(t, "texts") {
			c := custom[rapid.IntRange(0, len(custom)-1).Draw(t, "from")]
			text += rapid.SampledFrom(append([]string{" ", "12-34-5678 ", "a@b.c", "1 202 555 0143", "<P3>", "é"}, c.texts...)).Draw(t, "text")
		}
		checkSplit(t, x, text, rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 8).Draw(t, "cuts"))
	})
}

// A text with very many candidates takes bounded time, and what is not looked up is masked.
func TestManyPhones(t *testing.T) {
	x := regexOf(t, nil, PhoneNumber)
	f := newPhoneFinder()
	text := strings.Repeat("0000 000 ", mostChecks)
	f.advance(nil, []byte(text), 0, true)
	if f.left != 0 {
		t.Fatalf("%d checks are left", f.left)
	}
	masked, _ := x.Mask(text)
	if !strings.HasPrefix(masked, "0000 000 ") || !strings.HasSuffix(masked, "<PHONE_NUMBER> ") {
		t.Errorf("it becomes %.30q … %q", masked, masked[len(masked)-30:])
	}
}
