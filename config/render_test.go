package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func rendered(t *testing.T, r *Report, s *Sources, o Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := Render(&out, r, s, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func sourcesOf(files map[string]string) *Sources {
	s := &Sources{files: map[string]*source{}}
	for name, text := range files {
		s.files[name] = newSource(name, text)
	}
	return s
}

// The form of the documentation, to the letter.
func TestRender(t *testing.T) {
	s := sourcesOf(map[string]string{"gateway.yaml": strings.Repeat("\n", 13) + "      prot: 8080\n"})
	r := &Report{Problems: []Problem{
		{Class: Warning, Code: "MG0311", Message: "an unused object", Object: ObjectRef{Kind: "Backend", Namespace: "team", Name: "b"}},
		{
			Class: Invalid, Code: CodeUnknownField, Message: "unknown field `prot` in MCP target", Label: "did you mean `port`?",
			Object: ObjectRef{"Backend", "default", "tools"}, Path: "spec.mcp.targets[0].static.prot", Help: "mcpgw explain Backend.spec.mcp.targets.static",
			Position: Position{"gateway.yaml", 14, 7, 4},
		},
		{Class: Unresolved, Code: CodeUnresolvedBackend, Message: "Backend/none is not there", Position: Position{File: "gone.yaml", Line: 3, Column: 1}, Label: "here"},
	}}
	const want = `error[MG0107]: unknown field ` + "`prot`" + ` in MCP target
  ┌─ gateway.yaml:14:7
  │
14│       prot: 8080
  │       ^^^^ did you mean ` + "`port`?" + `
  = in Backend/tools → spec.mcp.targets[0].static
  = help: mcpgw explain Backend.spec.mcp.targets.static

unresolved[MG0301]: Backend/none is not there
 ┌─ gone.yaml:3:1
 = here

warning[MG0311]: an unused object
 = in Backend/team/b

1 error, 1 unresolved, 1 warning
`
	// The line begins with six spaces, and the bar is followed by one.
	if diff := cmp.Diff(want, rendered(t, r, s, Options{})); diff != "" {
		t.Error(diff)
	}
	color := rendered(t, r, s, Options{Color: true})
	if !strings.Contains(color, "\x1b[1;31merror[MG0107]\x1b[0m") || !strings.Contains(color, "\x1b[1;33mwarning[MG0311]\x1b[0m") {
		t.Errorf("no colours: %q", color)
	}
	plain := strings.NewReplacer("\x1b[1m", "", "\x1b[1;31m", "", "\x1b[1;33m", "", "\x1b[34m", "", "\x1b[0m", "").Replace(color)
	if diff := cmp.Diff(want, plain); diff != "" {
		t.Errorf("colours change the text: %s", diff)
	}
	if got := rendered(t, &Report{}, s, Options{}) + rendered(t, nil, nil, Options{}); got != "" {
		t.Errorf("an empty report is %q", got)
	}
	if err := Render(failing{}, r, s, Options{}); !errors.Is(err, errFailing) {
		t.Errorf("the error of the writer: %v", err)
	}
}

var errFailing = errors.New("no space")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }

func TestRenderAtMost(t *testing.T) {
	r := &Report{}
	for i := range 21 {
		r.Add(Problem{Class: Invalid, Code: CodeSyntax, Message: fmt.Sprint("m", i), Position: Position{File: "f", Line: i + 1, Column: 1}})
	}
	for limit, want := range map[int]int{0: 20, 1: 1, 20: 20, 21: 21, 22: 21} {
		got := rendered(t, r, nil, Options{Max: limit})
		if n := strings.Count(got, "error["); n != want || strings.Contains(got, "more") != (want < 21) {
			t.Errorf("Max %d shows %d problems, want %d", limit, n, want)
		}
		if !strings.HasSuffix(got, "21 errors\n") {
			t.Errorf("Max %d ends in %q", limit, got[len(got)-12:])
		}
	}
}

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("a", 500) + "XX" + strings.Repeat("b", 500)
	for name, c := range map[string]struct {
		text           string
		column, length int
		mask           []span
		want           string // the excerpt
		marked         string // what the caret is under
	}{
		"plain":                    {"key: value", 6, 5, nil, "key: value", "value"},
		"no length":                {"key: value", 6, 0, nil, "key: value", "v"},
		"behind the line":          {"key:", 5, 0, nil, "key:", ""},
		"tabs are seen":            {"\tkey", 1, 1, nil, "→key", "→"},
		"nothing for the terminal": {"a\x1b[31mb", 2, 1, nil, "a�[31mb", "�"},
		"before a mask":            {"key: secret", 1, 3, []span{{5, 11}}, "key: [redacted]", "key"},
		"at a mask":                {"key: secret x", 6, 6, []span{{5, 11}}, "key: [redacted] x", "[redacted]"},
		"within a mask":            {"key: secret x", 8, 1, []span{{5, 11}}, "key: [redacted] x", "[redacted]"},
		"behind a mask":            {"key: secret x", 13, 1, []span{{5, 11}}, "key: [redacted] x", "x"},
		"over a mask":              {"key: secret x", 1, 13, []span{{5, 11}}, "key: [redacted] x", "key: [redacted] x"},
		"a short secret":           {"k: s, x: y", 7, 1, []span{{3, 4}}, "k: [redacted], x: y", "x"},
		"two masks":                {"a: s, b: s, c", 13, 1, []span{{3, 4}, {9, 10}}, "a: [redacted], b: [redacted], c", "c"},
		"masks that overlap":       {"a: secret", 1, 1, []span{{3, 6}, {5, 9}}, "a: [redacted]", "a"},
		"a long line":              {long, 501, 2, nil, "…" + strings.Repeat("a", 80) + "XX" + strings.Repeat("b", 78) + "…", "XX"},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource("f", c.text)
			src.masks[1] = c.mask
			text, from, length := src.excerpt(Position{"f", 1, c.column, c.length})
			if text != c.want {
				t.Errorf("%q, want %q", text, c.want)
			}
			runes := []rune(text)
			if got := string(runes[min(from, len(runes)):min(from+length, len(runes))]); got != c.marked {
				t.Errorf("the caret is under %q, want %q", got, c.marked)
			}
		})
	}
}

// What must not be shown of a line, wherever the line stands.
func TestSecretsInLines(t *testing.T) {
	for line, want := range map[string]string{
		`- request.headers['x-api-key'] == 'hunter2'`:            `- request.headers['x-api-key'] == [redacted]`,
		`- "request.headers[\"Authorization\"] == \"hunter2\""`:  `- "request.headers[\"Authorization\"] == [redacted]"`,
		`- request.headers["x-tenant"] == "acme"`:                `- request.headers["x-tenant"] == "acme"`,
		`- request.headers['authorization'].startsWith('hunter`:  `- request.headers['authorization'].startsWith([redacted]`,
		`value: Bearer abcdef123456`:                             `value: Bearer [redacted]`,
		`args: [--key, sk-abcdefghijkl]`:                         `args: [--key, [redacted]]`,
		`host: "http://user:hunter2@h:80/p"`:                     `host: "http://[redacted]@h:80/p"`,
		`host: user:hunter2@h`:                                   `host: user:[redacted]@h`,
		`url: https://hunter2@h`:                                 `url: https://[redacted]@h`,
		`password: in a document that is YAML, told by its kind`: `password: in a document that is YAML, told by its kind`,
	} {
		text, _, _ := newSource("f", line).excerpt(Position{"f", 1, 1, 1})
		if text != want {
			t.Errorf("%s\n got %q\nwant %q", line, text, want)
		}
	}
}

// A document that is not YAML can't be asked what is secret in it.
func TestSecretsAreGuessed(t *testing.T) {
	const text = `kind: Backend
spec:
  targets:
  - name: a
    auth:
      inline: hunter2
      inline: |
        hunter2
        hunter2
    stdio:
      command: npx
      env:
        KEY: hunter2
        - hunter2
    flow: {inline: hunter2, "token": "hunter2, hunter2", name: b}
---
kind: Secret
metadata:
  name: c
data:
  key: hunter2
  hunter2
`
	src := newSource("f", text)
	src.unparsed = []span{{1, 16}, {16, 23}}
	var shown []string
	for n := 1; n <= len(src.starts); n++ {
		line, _, _ := src.excerpt(Position{"f", n, 1, 1})
		shown = append(shown, line)
	}
	got := strings.Join(shown, "\n")
	const want = `kind: Backend
spec:
  targets:
  - name: a
    auth:
      inline: [redacted]
      inline: [redacted]
        [redacted]
        [redacted]
    stdio:
      command: npx
      env:
        KEY: [redacted]
        [redacted]
    flow: {inline: [redacted], "token": [redacted], name: b}
---
kind: Secret
metadata:
  name: c
data:
  key: [redacted]
  [redacted]
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProblemAsJSON(t *testing.T) {
	got, err := json.Marshal(&Report{Problems: []Problem{
		{
			Class: Invalid, Code: CodeType, Object: ObjectRef{"Backend", "default", "b"}, Path: "spec", Message: "m", Label: "l", Help: "h",
			Position: Position{"f", 1, 2, 3}, Related: []Related{{Position{"f", 4, 5, 0}, "r"}},
		},
		{Class: Warning, Code: CodeUnused, Message: "m"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"problems":[` +
		`{"class":"error","code":"MG0108","object":{"kind":"Backend","namespace":"default","name":"b"},"path":"spec",` +
		`"position":{"file":"f","line":1,"column":2,"length":3},"message":"m","label":"l","help":"h",` +
		`"related":[{"position":{"file":"f","line":4,"column":5},"message":"r"}]},` +
		`{"class":"warning","code":"MG0311","message":"m"}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestReport(t *testing.T) {
	at := func(file string, line, column int) Position { return Position{File: file, Line: line, Column: column} }
	r := &Report{}
	r.Add(Problem{Class: Warning, Code: "MG0002", Position: at("a", 1, 1)})
	r.Add(Problem{Class: Invalid, Code: "MG0001", Object: ObjectRef{"B", "", "x"}})
	r.Add(Problem{Class: Invalid, Code: "MG0001", Position: at("b", 1, 1)})
	r.Merge(nil)
	r.Merge(&Report{Problems: []Problem{
		{Class: Invalid, Code: "MG0001", Position: at("a", 10, 1)},
		{Class: Invalid, Code: "MG0001", Position: at("a", 9, 7)},
		{Class: Unresolved, Code: "MG0001", Position: at("a", 1, 1)},
		{Class: Invalid, Code: "MG0001", Position: at("a", 9, 7)},
	}})
	r.Sort()
	var got []string
	for _, p := range r.Problems {
		got = append(got, p.Class.String()+" "+p.Position.String())
	}
	want := []string{"error a:9:7", "error a:10:1", "error b:1:1", "error ", "unresolved a:1:1", "warning a:1:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := r.Summary(); got != "4 errors, 1 unresolved, 1 warning" || !r.Has(Warning) || r.Count(Invalid) != 4 {
		t.Error(got)
	}
	var none *Report
	if none.Summary() != "no problems" || none.Has(Invalid) {
		t.Error(none.Summary())
	}
}

func TestCodes(t *testing.T) {
	last := ""
	for _, c := range Codes() {
		if c.ID <= last || len(c.ID) != 6 || c.Title == "" || len(c.Text) < 20 || !strings.HasSuffix(c.Text, ".") {
			t.Errorf("%+v after %s", c, last)
		}
		last = c.ID
	}
}
