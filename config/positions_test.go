package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// text returns the part of text that p is at.
func textAt(t *testing.T, text string, p Position) string {
	t.Helper()
	lines := strings.Split(text, "\n")
	if p.Line < 1 || p.Line > len(lines) {
		t.Fatalf("%v is not in the file", p)
	}
	line := []rune(strings.TrimSuffix(lines[p.Line-1], "\r"))
	if p.Column < 1 || p.Column-1+p.Length > len(line) {
		t.Fatalf("%v is not in line %q", p, string(line))
	}
	return string(line[p.Column-1 : p.Column-1+p.Length])
}

func TestPositionsFind(t *testing.T) {
	const text = `apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata:
  name: "töols"
  labels: {app.kubernetes.io/name: x, app: y}
spec:
  ai:
    llm:
      vertexAi: {projectId: one, model: 'a''b'}
    provider:
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: mcp}
spec:
  mcp:
    targets:
    - name: a
      static: {host: localhost, port: 8080}
    -   name: b
        stdio:
          command: |
            npx
          env: {"A.B": x, C: [1]}
    - {name: c}
    -
      name: d
`
	res, _ := LoadFiles([]File{{Name: "f.yaml", Text: []byte(strings.Replace(text, "töols", "tools", 1))}})
	llm, mcp := ObjectRef{Kind: "Backend", Namespace: "default", Name: "tools"}, ObjectRef{Kind: "Backend", Namespace: "default", Name: "mcp"}
	for _, c := range []struct {
		obj              ObjectRef
		path             string
		value, key, line string
	}{
		{llm, "", `"tools"`, `"tools"`, "4"},
		{llm, "metadata.name", `"tools"`, "name", "4"},
		{llm, "metadata.labels.app.kubernetes.io/name", "x", "app.kubernetes.io/name", "5"},
		{llm, "metadata.labels.app", "y", "app", "5"},
		{llm, "spec.ai.llm.vertexAI.project", "one", "projectId", "9"},
		{llm, "spec.ai.llm.vertexAI.model", "'a''b'", "model", "9"},
		{llm, "spec.ai.llm.vertexAI.nothing", "vertexAi", "vertexAi", "9"},
		{llm, "spec.nothing.at[3].all", "spec", "spec", "6"},
		{llm, "nothing", `"tools"`, `"tools"`, "4"},
		{mcp, "spec.mcp.targets[0].static.port", "8080", "port", "19"},
		{mcp, "spec.mcp.targets[0].static", "static", "static", "19"},
		{mcp, "spec.mcp.targets[0]", "name", "name", "18"},
		{mcp, "spec.mcp.targets[1]", "name", "name", "20"},
		{mcp, "spec.mcp.targets[1].stdio.command", "command", "command", "22"},
		{mcp, "spec.mcp.targets[1].stdio.env.A.B", "x", `"A.B"`, "24"},
		{mcp, "spec.mcp.targets[1].stdio.env.C[0]", "1", "1", "24"},
		{mcp, "spec.mcp.targets[2]", "name", "name", "25"},
		{mcp, "spec.mcp.targets[3].name", "d", "name", "27"},
		{mcp, "spec.mcp.targets[9]", "targets", "targets", "17"},
	} {
		t.Run(c.path, func(t *testing.T) {
			at, key := res.Positions.Find(c.obj, c.path), res.Positions.FindKey(c.obj, c.path)
			source := strings.Replace(text, "töols", "tools", 1)
			if got := textAt(t, source, at); got != c.value || fmt.Sprint(at.Line) != c.line {
				t.Errorf("Find: %q at %v, want %q in line %s", got, at, c.value, c.line)
			}
			if got := textAt(t, source, key); got != c.key {
				t.Errorf("FindKey: %q at %v, want %q", got, key, c.key)
			}
		})
	}
	if got := res.Positions.Find(ObjectRef{Kind: "Backend", Name: "none"}, "spec"); !got.IsZero() {
		t.Errorf("the position of an object that is not there: %v", got)
	}
	var none *Positions
	if got := none.Find(llm, "spec"); !got.IsZero() || none.Sources() != nil || none.Written(llm, "spec") != "spec" {
		t.Errorf("nil Positions find %v", got)
	}
}

// The character that an expression's error is about, in all ways to write it.
func TestPositionsFindOffset(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string // below "v: "
		want string // the value, with the character that is asked for between « and »
		at   string // line:column in the file
	}{
		"plain":                  {"v: a == b\n", "a «=»= b", "1:6"},
		"plain, end":             {"v: a == b\n", "a == b«»", "1:10"},
		"plain, past the end":    {"v: ab # c\n", "ab«»", "1:6"},
		"plain on several lines": {"v: one\n  two\n\n  three\n", "one two\nth«r»ee", "4:5"},
		"plain, the folded line": {"v: one\n  two\n", "one« »two", "1:7"},
		"non-ASCII":              {"v: äöü == ß\n", "äöü == «ß»", "1:11"},
		"single quotes":          {"v: 'it''s == x'\n", "it's =«=» x", "1:12"},
		"single, folded":         {"v: 'one\n\n\n  two'\n", "one\n\n«t»wo", "4:3"},
		"single, end":            {"v: 'one'\n", "one«»", "1:8"},
		"double quotes":          {`v: "a\t\"b\" == c"` + "\n", "a\t\"b\" == «c»", "1:17"},
		"double, \\x and \\u":    {`v: "\x41\u00e4\U0001F600z"` + "\n", "Aä😀«z»", "1:25"},
		"double, folded":         {"v: \"one  \n   two\\\n   three\"\n", "one two«t»hree", "3:4"},
		"double, escaped break":  {"v: \"one \\\n   \\ two\"\n", "one  «t»wo", "2:6"},
		"literal":                {"v: |\n  one\n    two\n\n  three\n", "one\n  tw«o»\n\nthree\n", "3:7"},
		"literal, break":         {"v: |\n  one\n  two\n", "one«\n»two\n", "2:6"},
		"literal, indented":      {"v: |2\n    one\n  two\n", "  one\n«t»wo\n", "3:3"},
		"literal, keep":          {"v: |+\n  one\n\n\n", "one\n\n\n«»", "5:1"},
		"literal, strip":         {"v: |- # comment\n  one\n  two\n\n", "one\ntw«o»", "3:5"},
		"literal, blank first":   {"v: |\n\n\n  one\n", "\n\no«n»e\n", "4:4"},
		"folded":                 {"v: >\n  one\n  two\n\n  three\n", "one two\n«t»hree\n", "5:3"},
		"folded, more indented":  {"v: >-\n  one\n    two\n  three\n", "one\n  two\nthre«e»", "4:7"},
		"anchor and tag":         {"v: !!str &x 'one'\n", "o«n»e", "1:15"},
		"anchor on its own line": {"v: &x\n  one\n", "on«e»", "2:5"},
		"alias":                  {"u: &x one\nv: *x\n", "o«n»e", "1:8"},
		"in a list":              {"v:\n- - x\n  - one\n", "", ""},
		"flow":                   {"v: {a: one, b: two}\n", "", ""},
		"CRLF":                   {"v: |\r\n  one\r\n  two\r\n", "one\ntw«o»\n", "3:5"},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource("f", c.yaml)
			report := &Report{}
			docs := parseFile(src, report)
			if len(docs) != 1 || len(report.Problems) > 0 {
				t.Fatalf("%d documents, %+v", len(docs), report.Problems)
			}
			value, root, _ := build(docs[0], new(int), report)
			v, ok := value.(map[string]any)["v"].(string)
			if !ok {
				return // the parser's business
			}
			before, rest, _ := strings.Cut(c.want, "«")
			char, after, _ := strings.Cut(rest, "»")
			if v != before+char+after {
				t.Fatalf("the value is %q, not %q", v, before+char+after)
			}
			w := &written{src: src, root: root}
			at := w.findOffset("v", len([]rune(before)))
			if got := fmt.Sprintf("%d:%d", at.Line, at.Column); got != c.at {
				t.Errorf("at %s, want %s", got, c.at)
			}
		})
	}
}

// Every character of every string is found where the file has it, however it is
// written: the source there is the character itself, unless it was escaped.
func TestPlacesAreThoseOfCharacters(t *testing.T) {
	word := rapid.StringOfN(rapid.RuneFrom([]rune(`ab ä😀'"\:#-{}[]&*!|>%@,=()`+"\t")), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(word, 1, 5).Draw(t, "lines")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		var text string
		style := rapid.SampledFrom([]string{"|", ">", "|-", ">-", "|+", ">+", "'", `"`}).Draw(t, "style")
		switch style {
		case "'":
			text = "v: '" + strings.ReplaceAll(strings.Join(lines, "\n  "), "'", "''") + "'\n"
		case `"`:
			quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.Join(lines, "\n  "))
			text = "v: \"" + quoted + "\"\n"
		default:
			text = "v: " + style + "\n"
			for _, line := range lines {
				text += "  " + line + "\n"
			}
		}
		text = "# first\n" + text + "w: x\n"
		src := newSource("f", text)
		report := &Report{}
		docs := parseFile(src, report)
		if len(docs) != 1 || len(report.Problems) > 0 {
			return // such as a tab where none may be
		}
		value, root, _ := build(docs[0], new(int), report)
		v, ok := value.(map[string]any)["v"].(string)
		if !ok {
			return
		}
		places := src.places(root.field("v").scalar)
		runes := []rune(v)
		if len(places) != len(runes)+1 {
			t.Fatalf("%d places for %q in %q", len(places), v, text)
		}
		last := place{}
		for i, r := range runes {
			at := places[i]
			if at.line < last.line || at.line == last.line && at.column < last.column {
				t.Fatalf("the places of %q in %q are not in order: %v after %v", v, text, at, last)
			}
			last = at
			line := []rune(src.line(at.line))
			switch {
			case r == '\n' || at.column > len(line): // a line break, or one that is folded into a space
				if r != '\n' && r != ' ' {
					t.Fatalf("%q of %q is behind its line in %q", r, v, text)
				}
			case line[at.column-1] != r && line[at.column-1] != '\\' && strings.TrimSpace(string(line[at.column-1:])) != "":
				t.Fatalf("%q of %q is at %q in %q", r, v, line[at.column-1], text)
			}
		}
	})
}

func TestWritten(t *testing.T) {
	res, _ := LoadFiles([]File{{Name: "f.yaml", Text: []byte(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: llm, namespace: team}
spec: {ai: {llm: {vertexAi: {projectId: one, region: two}}}}
`)}})
	obj := ObjectRef{Kind: "Backend", Namespace: "team", Name: "llm"}
	var report Report
	report.AddAt(res.Positions, Problem{Class: Invalid, Code: CodeInvalidValue, Object: obj, Path: "spec.ai.llm.vertexAI.location", Message: "m"})
	report.AddAt(nil, Problem{Class: Invalid, Code: CodeInvalidValue, Object: obj, Path: "spec.ai", Message: "m"})
	want := []Problem{
		{
			Class: Invalid, Code: CodeInvalidValue, Object: obj, Path: "spec.ai.llm.vertexAi.region", Message: "m",
			Position: Position{File: "f.yaml", Line: 5, Column: 54, Length: 3},
		},
		{Class: Invalid, Code: CodeInvalidValue, Object: obj, Path: "spec.ai", Message: "m"},
	}
	if diff := cmp.Diff(want, report.Problems); diff != "" {
		t.Error(diff)
	}
}
