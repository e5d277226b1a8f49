package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// values returns what the documents of a file hold, as JSON.
func values(t *testing.T, text string) []string {
	t.Helper()
	report := &Report{}
	var out []string
	for _, doc := range parseFile(newSource("f", text), report) {
		value, _, _ := build(doc, new(int), report)
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(encoded))
	}
	if len(report.Problems) > 0 {
		t.Fatalf("%+v", report.Problems)
	}
	return out
}

// What is read is what kubectl reads: a file means the same here and in a cluster.
func TestValuesAreThoseOfKubernetes(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		src := newSource(path, strings.TrimPrefix(string(file), "\uFEFF"))
		for i, chunk := range src.chunks() {
			end := len(src.text)
			if chunk.to <= len(src.starts) {
				end = src.starts[chunk.to-1]
			}
			same(t, path, i, src.text[src.starts[chunk.from-1]:end])
		}
	}
	for i, scalar := range []string{
		"1", "-1", "+1", "012", "0o14", "0x1F", "0b11", "1_000", "1.5", "1e3", "-.5", "9007199254740993", "true", "True", "FALSE", "null", "~", "",
		"2026-11-23", "2026-11-23T10:00:00Z", "1:30", "a b", "a:b", "a#b", "'1'", `"\u00e4\t"`, "!!str 1", "!!int '1'", "|\n  a\n  b", ">-\n  a\n  b\n\n  c",
		"[1, [2], {a: b}]", "{a: , b: c}", "\n- a\n- - b\n  - c", "&x {a: 1}",
	} {
		same(t, "scalar "+scalar, i, "v: "+scalar+"\n")
	}
}

// same compares what a document is here and there.
func same(t *testing.T, name string, i int, text string) {
	t.Helper()
	there, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := values(t, text)
	if len(got) == 0 {
		got = []string{"null"} // nothing but comments
	}
	var want any
	if err := json.Unmarshal(there, &want); err != nil {
		t.Fatal(err)
	}
	normal, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var mine any
	if err := json.Unmarshal([]byte(got[0]), &mine); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(normal), string(again)); diff != "" || len(got) != 1 {
		t.Errorf("%s, document %d: %s", name, i, diff)
	}
}
