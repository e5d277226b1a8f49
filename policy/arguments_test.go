package policy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // "" is readable
	}{
		{`{}`, ""},
		{` {"a": [1, 2.5, -0, 1e3, true, null, "x", {"b": []}]} `, ""},
		{`{"a": 9223372036854775808}`, ""},
		{`{"a": 1e400}`, "a JSON number is out of range"},
		{`[]`, "the arguments are not a JSON object"},
		{`null`, "the arguments are not a JSON object"},
		{`{"a": 1, "a": 1}`, "duplicate object member name"},
		{`{"a": 1, "\u0061": 1}`, "duplicate object member name"},
		{`{} {}`, "data after the JSON value"},
		{`{} x`, "data after the JSON value"},
		{"{\"\xff\": 1}", "invalid UTF-8"},
		{`{"a": "\ud800"}`, "surrogate"},
		{`{"a": }`, "missing value"},
		{`{"a": [1,]}`, "invalid character"},
		{`{"a": {"b"`, "EOF"},
		{``, "EOF"},
	} {
		v, err := decodeObject([]byte(tt.args))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.args, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, %v, want %q", tt.args, v, err, tt.want)
		}
	}
}

// plain turns a CEL value into what encoding/json makes of the same text.
func plain(t *testing.T, v ref.Val) any {
	switch v := v.(type) {
	case types.Null:
		return nil
	case types.Bool:
		return bool(v)
	case types.String:
		return string(v)
	case types.Int:
		return float64(v)
	case types.Double:
		return float64(v)
	case traits.Lister:
		out := []any{}
		for _, e := range each(v) {
			out = append(out, plain(t, e))
		}
		return out
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			out[string(k.(types.String))] = plain(t, v.Get(k))
		}
		return out
	}
	t.Fatalf("%T", v)
	return nil
}

// FuzzArguments holds that what a rule sees in arguments is what other readers see, or
// nothing.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{`{}`, `{"a": [1, 2.5, {"b": null}], "c": "\u00e9\n"}`, `{"a":1,"a":2}`, `{"n": 9007199254740993}`, `{"a": 1E-2}`, "{\"\xff\":1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decodeObject(data)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("encoding/json refuses what rules read: %v", err)
		}
		if got := plain(t, v); !reflect.DeepEqual(got, want) {
			t.Fatalf("rules read %v, encoding/json %v", got, want)
		}
	})
}
