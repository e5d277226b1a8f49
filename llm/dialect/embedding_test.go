package dialect

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// Embeddings are read as numbers or as their bytes, and written as bytes; nothing else is one.
func TestVector(t *testing.T) {
	for in, want := range map[string]string{
		`[0.25,-0.5,1]`: `[0.25,-0.5,1]`, `[1e-7, 3]`: `[1e-7, 3]`, `[]`: `[]`,
		`"AACAPgAAAL8AAIA/"`: `[0.25,-0.5,1]`, `"zczMPQ=="`: `[0.1]`, `""`: `[]`,
		`"AACAPgA="`: "", `"?"`: "", `"AADAfw=="`: "", `"AACAfw=="`: "", // 5 bytes, no base64, not a number, infinity
		`["a"]`: "", `[1,null]`: "", `[[1]]`: "", `{}`: "", `null`: "", `1`: "", "": "",
	} {
		v, err := Vector{jsontext.Value(in)}.Numbers()
		if (err == nil) != (want != "") || err == nil && string(v.Values) != want {
			t.Errorf("%s is %s, %v", in, v.Values, err)
		}
	}
	for in, want := range map[string]string{`[0.25,-0.5,1]`: "AACAPgAAAL8AAIA/", `[0.1]`: "zczMPQ==", `[1e999]`: ""} {
		got, err := Vector{jsontext.Value(in)}.Base64()
		if (err == nil) != (want != "") || got != want {
			t.Errorf("the bytes of %s are %s, %v", in, got, err)
		}
	}
}
