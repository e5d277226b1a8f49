package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "canary-1f2e3d4c"

// Nothing that prints prints the secret: neither by itself nor inside of what holds it.
func TestNothingPrintsIt(t *testing.T) {
	v := New(canary)
	type holder struct {
		Name  string
		Token Value
		Ref   *Value
		list  []Value
	}
	h := holder{Name: "n", Token: v, Ref: &v, list: []Value{v}}
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%T"} {
		printed["value "+verb] = fmt.Sprintf(verb, v)
		printed["pointer "+verb] = fmt.Sprintf(verb, &v)
		printed["list "+verb] = fmt.Sprintf(verb, []Value{v})
		printed["map "+verb] = fmt.Sprintf(verb, map[string]Value{"k": v})
		printed["holder "+verb] = fmt.Sprintf(verb, h)
		printed["pointer to holder "+verb] = fmt.Sprintf(verb, &h)
	}
	for name, handler := range map[string]func(*strings.Builder) slog.Handler{
		"slog JSON": func(b *strings.Builder) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"slog text": func(b *strings.Builder) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var b strings.Builder
		slog.New(handler(&b)).Info("m", "value", v, "pointer", &v, "holder", h, "group", slog.GroupValue(slog.Any("inner", v)))
		printed[name] = b.String()
	}
	for name, in := range map[string]any{"JSON": v, "JSON holder": h} {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		printed[name] = string(b)
	}
	printed["error"] = fmt.Errorf("doing: %w", errors.New(fmt.Sprint("with ", v))).Error()
	for name, got := range printed {
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
			if strings.Contains(got, strings.Trim(form, "[]")) {
				t.Errorf("%s prints %s", name, got)
			}
		}
	}
	if got := fmt.Sprint(v); got != Redacted {
		t.Errorf("prints %q, want %q", got, Redacted)
	}
	if got := printed["JSON"]; got != `"`+Redacted+`"` {
		t.Errorf("JSON is %s", got)
	}
}

func TestValue(t *testing.T) {
	v := New(canary)
	if v.Reveal() != canary || v.IsZero() {
		t.Errorf("holds %q, zero %v", v.Reveal(), v.IsZero())
	}
	if zero := (Value{}); !zero.IsZero() || zero.Reveal() != "" || !zero.Equal(New("")) {
		t.Error("the zero Value is no empty secret")
	}
	for other, want := range map[string]bool{canary: true, canary + "x": false, canary[:5]: false, "": false, strings.ToUpper(canary): false} {
		if got := v.Equal(New(other)); got != want {
			t.Errorf("equal to %q: %v", other, got)
		}
	}
}
