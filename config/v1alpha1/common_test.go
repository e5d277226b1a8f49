package v1alpha1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// TestSensitive shows that no printed form of an object, and no error about it,
// holds a secret, and that the object does.
func TestSensitive(t *testing.T) {
	const token, value = "tok-canary", "env-canary"
	obj := object(t, `
spec:
  mcp:
    targets:
    - {name: a, auth: {inline: tok-canary}, static: {host: h, port: 1}}
    - {name: b, stdio: {command: c, env: {A: env-canary}}}`)
	Normalize(KindBackend, obj)
	o, errs := Parse(KindBackend, obj)
	if errs != nil {
		t.Fatal(errs)
	}
	b := o.(*Backend)
	if got := b.Spec.MCP.Targets[0].Auth.Inline.Secret().Reveal(); got != token {
		t.Errorf("the token is %q", got)
	}
	if got := b.DeepCopy().Spec.MCP.Targets[1].Stdio.Env["A"].Secret().Reveal(); got != value {
		t.Errorf("the variable of a copy is %q", got)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "b", b, "spec", b.Spec.MCP.Targets[0].Auth)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "b", b, "spec", b.Spec.MCP.Targets[0].Auth.Inline)
	j, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	auth, stdio := b.Spec.MCP.Targets[0].Auth, b.Spec.MCP.Targets[1].Stdio
	for name, text := range map[string]string{
		"log": log.String(), "JSON": string(j), "YAML": string(y),
		"%v":    fmt.Sprintf("%v %v %v", auth, *stdio, stdio.Env),
		"%+v":   fmt.Sprintf("%+v %+v", *auth, *stdio),
		"%#v":   fmt.Sprintf("%#v %#v", *auth, *stdio),
		"%s %q": fmt.Sprintf("%s %q", auth.Inline, auth.Inline),
	} {
		if strings.Contains(text, token) || strings.Contains(text, value) {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
	b.Spec.MCP.Targets[0].Auth.Inline += "\n"
	b.Spec.MCP.Targets[1].Stdio.Env["A"] += "\x00"
	if errs := b.Validate(); len(errs) != 2 || strings.Contains(fmt.Sprintf("%+v", errs), "canary") {
		t.Errorf("errors about secrets: %v, want two that don't show them", errs)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[Duration]time.Duration{"": 0, "0s": 0, "1h30m": 90 * time.Minute, "50ms": 50 * time.Millisecond, "soon": 0} {
		if got := text.Value(); got != want {
			t.Errorf("Value of %q is %v, want %v", text, got, want)
		}
	}
	if Duration("").Or(time.Second) != time.Second || Duration("0s").Or(time.Second) != 0 {
		t.Error("Or gives the default for what is absent, and only for that")
	}
}

// TestScheme shows that objects of every kind, and lists of them, are known to a
// scheme under their kind.
func TestScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds() {
		o, err := s.New(GroupVersion.WithKind(kind))
		if err != nil || kindOf(o) != kind || kindOf(New(kind)) != kind {
			t.Errorf("%s: %T, %v", kind, o, err)
		}
		if _, err := s.New(GroupVersion.WithKind(kind + "List")); err != nil {
			t.Errorf("%sList: %v", kind, err)
		}
		if kindOf(o.DeepCopyObject()) != kind {
			t.Errorf("%s: a copy is a %T", kind, o.DeepCopyObject())
		}
	}
	if New("Service") != nil {
		t.Error("New makes an object of another API's kind")
	}
}
