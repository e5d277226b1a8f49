package config

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Whatever a file holds: loading and rendering end, and every problem is at a place
// within the file.
func FuzzLoad(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		res, report := LoadFiles([]File{{Name: "f.yaml", Text: text}})
		src := res.Positions.Sources().file("f.yaml")
		places := func(p Position, what string) {
			if p.File != "f.yaml" {
				t.Fatalf("%s has no position: %+v", what, p)
			}
			if src == nil || p.Line == 0 {
				return // about the file as a whole
			}
			if p.Line < 1 || p.Line > len(src.starts) || p.Column < 1 || p.Column-1+p.Length > len([]rune(src.line(p.Line)))+1 {
				t.Fatalf("%s is outside of the file: %v", what, p)
			}
		}
		for _, p := range report.Problems {
			places(p.Position, p.Message)
			if p.Position.Line == 0 && p.Code != CodeNoObjects && p.Code != CodeFileTooLarge {
				t.Fatalf("no line for %+v", p)
			}
			for _, r := range p.Related {
				places(r.Position, r.Message)
			}
		}
		for obj, w := range res.Positions.objects {
			places(res.Positions.Find(obj, "spec.a[0].b"), obj.String())
			places(res.Positions.FindOffset(obj, "metadata.name", 3), obj.String())
			if w.src != src {
				t.Fatal("an object of another file")
			}
		}
		if err := Render(io.Discard, report, res.Positions.Sources(), Options{Max: 1000}); err != nil {
			t.Fatal(err)
		}
	})
}
