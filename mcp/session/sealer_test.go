package session

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// The test vectors of c2sp.org/XAES-256-GCM.
func TestXAES(t *testing.T) {
	for _, test := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		k, err := newXAES(bytes.Repeat([]byte{test.key}, 32))
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		aead, err := k.derive(nonce)
		if err != nil {
			t.Fatal(err)
		}
		got := hex.EncodeToString(aead.Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(test.aad)))
		if got != test.want {
			t.Errorf("key %x…: %s", test.key, got)
		}
	}
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func sealer(t testing.TB, keys ...[]byte) *Sealer {
	t.Helper()
	s, err := NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealer(t *testing.T) {
	s := sealer(t, key(1))
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 10_000)} {
		sealed := s.Seal("cursor", plain, []byte("aad"))
		got, ok := s.Open("cursor", sealed, []byte("aad"))
		if !ok || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %t", len(plain), len(got), ok)
		}
		if sealed == s.Seal("cursor", plain, []byte("aad")) {
			t.Error("sealed the same twice")
		}
		for name, open := range map[string]func() ([]byte, bool){
			"other purpose":      func() ([]byte, bool) { return s.Open("state", sealed, []byte("aad")) },
			"other aad":          func() ([]byte, bool) { return s.Open("cursor", sealed, []byte("aae")) },
			"border moved":       func() ([]byte, bool) { return s.Open("cursora", sealed, []byte("ad")) },
			"other key":          func() ([]byte, bool) { return sealer(t, key(2)).Open("cursor", sealed, []byte("aad")) },
			"random key":         func() ([]byte, bool) { return sealer(t).Open("cursor", sealed, []byte("aad")) },
			"cut":                func() ([]byte, bool) { return s.Open("cursor", sealed[:len(sealed)-1], []byte("aad")) },
			"longer":             func() ([]byte, bool) { return s.Open("cursor", sealed+"A", []byte("aad")) },
			"line break":         func() ([]byte, bool) { return s.Open("cursor", sealed[:4]+"\n"+sealed[4:], []byte("aad")) },
			"empty":              func() ([]byte, bool) { return s.Open("cursor", "", []byte("aad")) },
			"not base64url text": func() ([]byte, bool) { return s.Open("cursor", strings.Repeat("+", 100), []byte("aad")) },
		} {
			if _, ok := open(); ok {
				t.Errorf("%s: opened", name)
			}
		}
		for i := range min(len(sealed), 200) {
			flipped := []byte(sealed)
			flipped[i] ^= 1
			if _, ok := s.Open("cursor", string(flipped), []byte("aad")); ok {
				t.Errorf("opened with byte %d changed", i)
			}
		}
	}
}

func TestSealerRotation(t *testing.T) {
	before, both, after := sealer(t, key(1)), sealer(t, key(2), key(1)), sealer(t, key(2))
	old := before.Seal("session", []byte("x"), nil)
	fresh := both.Seal("session", []byte("y"), nil)
	if got, ok := both.Open("session", old, nil); !ok || string(got) != "x" {
		t.Errorf("the old key: %q, %t", got, ok)
	}
	if got, ok := after.Open("session", fresh, nil); !ok || string(got) != "y" {
		t.Errorf("the new key: %q, %t", got, ok)
	}
	if _, ok := after.Open("session", old, nil); ok {
		t.Error("a key that is gone opens")
	}
}

func TestSealerKeys(t *testing.T) {
	many := make([][]byte, maxKeys+1)
	for i := range many {
		many[i] = key(byte(i))
	}
	for name, keys := range map[string][][]byte{
		"short": {make([]byte, 31)}, "long": {make([]byte, 33)}, "twice": {key(1), key(1)}, "too many": many,
	} {
		if _, err := NewSealer(keys...); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), string(key(1))) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
	if _, err := NewSealer(many[:maxKeys]...); err != nil {
		t.Error(err)
	}
}

func TestSealerDrawsNewPrefixes(t *testing.T) {
	s := sealer(t, key(1))
	first := s.Seal("cursor", []byte("x"), nil)
	if before := s.prefix; s.Seal("cursor", nil, nil) == "" || before != s.prefix {
		t.Error("a prefix for each text")
	}
	before := s.prefix
	s.left = 0
	second := s.Seal("cursor", []byte("x"), nil)
	if s.prefix == before {
		t.Error("the prefix stayed")
	}
	for _, sealed := range []string{first, second, first} {
		if got, ok := s.Open("cursor", sealed, nil); !ok || string(got) != "x" {
			t.Errorf("got %q, %t", got, ok)
		}
	}
	if n := (*s.keys.Load())[0].derived.Len(); n != 2 {
		t.Errorf("%d derived keys are kept", n)
	}
	forged := []byte(first)
	forged[10] ^= 1
	s.Open("cursor", string(forged), nil)
	if n := (*s.keys.Load())[0].derived.Len(); n != 2 {
		t.Error("a forged text left something")
	}
}

func BenchmarkSealerOpen(b *testing.B) {
	s := sealer(b, key(1))
	sealed := s.Seal("session", make([]byte, 256), []byte("aad"))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.Open("session", sealed, []byte("aad")); !ok {
			b.Fatal("not opened")
		}
	}
}

// After a change of keys texts are sealed with the new one, and opened with those
// that are left; a text whose key is gone is known for what it is.
func TestSealerSetKeys(t *testing.T) {
	a, b, c := bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize), bytes.Repeat([]byte{3}, keySize)
	s, err := NewSealer(a)
	if err != nil {
		t.Fatal(err)
	}
	only := func(key []byte) *Sealer {
		t.Helper()
		one, err := NewSealer(key)
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	opens := func(s *Sealer, text string) bool {
		_, ok := s.Open("p", text, nil)
		if ok != s.Holds(text) {
			t.Errorf("it opens: %v, its key is held: %v", ok, s.Holds(text))
		}
		return ok
	}
	first := s.Seal("p", []byte("x"), nil)
	if err := s.SetKeys(b, a); err != nil {
		t.Fatal(err)
	}
	second := s.Seal("p", []byte("x"), nil)
	if !opens(s, first) || !opens(s, second) || !opens(only(b), second) || opens(only(a), second) {
		t.Error("the new key does not seal, or the old one does not open")
	}
	for _, bad := range [][][]byte{{}, {c, c}, {c, a[1:]}, slices.Repeat([][]byte{a}, maxKeys+1)} {
		if err := s.SetKeys(bad...); err == nil {
			t.Errorf("%d keys are taken", len(bad))
		}
	}
	if !opens(only(b), s.Seal("p", []byte("x"), nil)) {
		t.Error("keys that are not valid changed something")
	}
	if err := s.SetKeys(c, b); err != nil {
		t.Fatal(err)
	}
	if opens(s, first) || !opens(s, second) {
		t.Error("a key that is gone opens, or one that is left does not")
	}
	for _, text := range []string{"", "AAAAAAA", "????????", second[:8]} {
		if s.Holds(text) != (text == second[:8]) {
			t.Errorf("%q", text)
		}
	}
}
