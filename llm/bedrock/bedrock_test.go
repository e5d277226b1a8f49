package bedrock_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/llm/bedrock"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Frames are taken up to the limit, at the limit, and one over it is not waited for.
func TestFramesLimit(t *testing.T) {
	frame := testaws.Event("x", `{"a":"`+strings.Repeat("b", 100<<10)+`"}`)
	if ev, err := bedrock.NewFrames(bytes.NewReader(frame), len(frame)).Next(); err != nil || ev.Type != "x" || len(ev.Data) != 100<<10+8 {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := bedrock.NewFrames(bytes.NewReader(frame[:20]), len(frame)-1).Next(); !errors.Is(err, events.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}

// A stream ends between two frames, and nowhere else.
func TestFramesCut(t *testing.T) {
	stream := append(testaws.Event("a", `{}`), testaws.Event("b", `{}`)...)
	first := len(testaws.Event("a", `{}`))
	for i := range stream {
		f := bedrock.NewFrames(bytes.NewReader(stream[:i]), 1<<20)
		var err error
		for err == nil {
			_, err = f.Next()
		}
		want := io.ErrUnexpectedEOF
		if i == 0 || i == first {
			want = io.EOF
		}
		if err != want {
			t.Errorf("cut at %d of %d: %v, not %v", i, len(stream), err, want)
		}
	}
}

// Whichever bit of a frame is changed, it is not taken for one.
func TestFramesDamaged(t *testing.T) {
	frame := testaws.Event("contentBlockDelta", `{"contentBlockIndex":0}`)
	for i := range frame {
		for bit := range 8 {
			bad := bytes.Clone(frame)
			bad[i] ^= 1 << bit
			if ev, err := bedrock.NewFrames(bytes.NewReader(bad), 1<<20).Next(); err == nil {
				t.Errorf("byte %d, bit %d: %+v", i, bit, ev)
			}
		}
	}
}

// FuzzFrames reads anything as a stream: nothing panics, and what comes out has the order that
// package dialect promises, and an end only when the answer is whole.
func FuzzFrames(f *testing.F) {
	paths, err := filepath.Glob("../testdata/*-bedrock/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if file.Name == "frames" {
				f.Add(string(file.Data), []byte{})
			}
		}
	}
	f.Add("", testaws.Event("messageStart", `{"role":"assistant"}`))
	f.Fuzz(func(t *testing.T, lines string, raw []byte) {
		if len(lines) > 1<<16 || strings.Count(lines, "\n") > 200 {
			return
		}
		for line := range strings.Lines(lines) {
			if typ, _, _ := strings.Cut(strings.TrimSpace(line), " "); len(typ) > 100 {
				return // the encoder's own limit
			}
		}
		wire := bedrock.NewFrames(bytes.NewReader(append(testaws.Frames(lines), raw...)), 1<<20)
		r := new(bedrock.Converse).NewReader()
		var begun, open, finished, ended bool
		take := func(list []dialect.Event) {
			for _, e := range list {
				bad := ended
				switch e.Kind {
				case dialect.Start:
					bad = bad || begun
					begun = true
				case dialect.BlockStart:
					bad = bad || !begun || open || finished
					open = true
				case dialect.Delta, dialect.Signed, dialect.Cited:
					bad = bad || !open
				case dialect.BlockEnd:
					bad = bad || !open
					open = false
				case dialect.Finish:
					bad = bad || !begun || open || finished
					finished = true
				case dialect.End:
					bad = bad || !finished
					ended = true
				}
				if bad {
					t.Fatalf("out of order: %+v\n%s", e, lines)
				}
			}
		}
		for {
			ev, err := wire.Next()
			if err == io.EOF {
				list, err := r.End()
				take(list)
				if (err == nil) != ended {
					t.Fatalf("it ends with %v", err)
				}
				return
			}
			if err != nil {
				return
			}
			list, err := r.Read(ev.Type, ev.Data)
			if err != nil {
				return
			}
			take(list)
		}
	})
}
