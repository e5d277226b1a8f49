package dialect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/openai"
	"github.com/mcpgw/mcpgw/llm/responses"
)

// A streamer is the part of a dialect that streams.
type streamer interface {
	NewReader() dialect.StreamReader
	NewWriter(dialect.WriterOptions) dialect.StreamWriter
}

var streamers = map[string]streamer{"chat": openai.Chat{}, "messages": anthropic.Messages{}, "gemini": gemini.GenerateContent{}, "responses": responses.Responses{}}

// said is what a stream says in the end, whatever its dialect: what must survive a
// translation.
type said struct {
	Thought, Text string
	Calls         []string
	Reason        string
}

// read reads a stream to its end and checks the order of its events.
func read(t testing.TB, d streamer, stream []byte) (all []dialect.Event, out said, err error) {
	t.Helper()
	r := d.NewReader()
	wire := events.NewReader(bytes.NewReader(stream), 1<<20)
	check := order{t: t, open: map[int]*dialect.Part{}, finished: map[int]bool{}, length: map[int]int{}}
	take := func(list []dialect.Event) {
		for _, e := range list {
			check.event(&e)
			all = append(all, e)
			if e.Choice == 0 {
				out.take(&e)
			}
		}
	}
	for !check.ended {
		ev, err := wire.Next()
		if err == io.EOF {
			list, err := r.End()
			take(list)
			if err == nil && !check.ended {
				t.Error("a stream is whole without an End")
			}
			return all, out, err
		}
		if err != nil {
			return all, out, err
		}
		if ev.Data == nil {
			continue
		}
		list, err := r.Read(ev.Type, ev.Data)
		take(list)
		if err != nil {
			return all, out, err
		}
	}
	return all, out, nil
}

// take adds what an event says.
func (s *said) take(e *dialect.Event) {
	switch e.Kind {
	case dialect.BlockStart:
		if e.Part.Kind == dialect.ToolCall {
			id, _, _ := dialect.UnpackID(e.Part.ID)
			s.Calls = append(s.Calls, id+" "+e.Part.Name+" ")
		} else {
			s.Calls = append(s.Calls, "") // where the text of calls does not go
		}
		if e.Part.Kind == dialect.Thinking {
			s.Calls[len(s.Calls)-1] = "thinking"
		}
	case dialect.Delta:
		switch last := s.Calls[len(s.Calls)-1]; last {
		case "":
			s.Text += e.Text
		case "thinking":
			s.Thought += e.Text
		default:
			s.Calls[len(s.Calls)-1] += e.Text
		}
	case dialect.Finish:
		s.Reason = e.Reason.String()
		var calls []string
		for _, c := range s.Calls {
			if c != "" && c != "thinking" {
				calls = append(calls, c)
			}
		}
		s.Calls = calls
	}
}

// An order checks that events come in the order that package dialect promises.
type order struct {
	t        testing.TB
	begun    bool
	ended    bool
	open     map[int]*dialect.Part
	length   map[int]int
	finished map[int]bool
}

func (o *order) event(e *dialect.Event) {
	bad := func(what string) {
		o.t.Helper()
		o.t.Errorf("%s: %+v", what, *e)
	}
	if o.ended {
		bad("after the end")
	}
	switch e.Kind {
	case dialect.Start:
		if o.begun {
			bad("twice")
		}
		o.begun = true
		return
	case dialect.UsageKnown, dialect.Lost:
		return
	case dialect.End:
		o.ended = true
		if len(o.finished) == 0 || len(o.open) > 0 {
			bad("too early")
		}
		return
	}
	if !o.begun || o.finished[e.Choice] {
		bad("out of order")
	}
	switch e.Kind {
	case dialect.BlockStart:
		if o.open[e.Choice] != nil {
			bad("two blocks at once")
		}
		o.open[e.Choice], o.length[e.Choice] = &e.Part, 0
	case dialect.Delta, dialect.Signed:
		if o.open[e.Choice] == nil {
			bad("outside of a block")
		}
		o.length[e.Choice] += len(e.Text)
	case dialect.Cited:
		if p := o.open[e.Choice]; p == nil || p.Kind != dialect.Text {
			bad("outside of a text")
		}
		if e.Citation.Path == "" {
			bad("from nowhere")
		}
	case dialect.BlockEnd:
		if p := o.open[e.Choice]; p == nil {
			bad("no block is open")
		} else if p.Kind == dialect.ToolCall && o.length[e.Choice] == 0 {
			bad("a call without arguments")
		}
		delete(o.open, e.Choice)
	case dialect.Finish:
		if o.open[e.Choice] != nil {
			bad("inside of a block")
		}
		o.finished[e.Choice] = true
	}
}

// valid reports whether all calls have arguments that are an object: others can't be said in
// every dialect. Nor can all names and ids, in the form of the test.
func (s *said) valid() bool {
	for i, c := range s.Calls {
		fields := strings.SplitN(c, " ", 3)
		args := fields[2]
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(args), &object) != nil || fields[0] == "" || fields[1] == "" {
			return false
		}
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(args)) != nil {
			return false
		}
		s.Calls[i] = fields[0] + " " + fields[1] + " " + compact.String()
	}
	return true
}

// streamNames are the dialects by number, as the fuzzers have them.
var streamNames = []string{"chat", "messages", "gemini", "responses"}

// eachReply calls add with each stream of the fixtures and the number of its dialect.
func eachReply(t testing.TB, add func(from byte, stream []byte)) {
	t.Helper()
	for i, vendor := range []string{"openai", "anthropic", "gemini", "responses"} {
		paths, err := filepath.Glob("../testdata/*-" + vendor + "/*.txtar")
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range a.Files {
				if file.Name == "reply" && bytes.Contains(file.Data, []byte("data:")) {
					add(byte(i), file.Data)
				}
			}
		}
	}
}

// A stream that is cut is not whole, or nothing was lost with the rest of it.
func FuzzCut(f *testing.F) {
	eachReply(f, func(from byte, stream []byte) {
		for _, n := range []int{0, len(stream) / 3, len(stream) / 2, len(stream) - 20} {
			f.Add(from, stream, max(n, 0))
		}
	})
	f.Fuzz(func(t *testing.T, from byte, stream []byte, n int) {
		if n < 0 || n > len(stream) {
			return
		}
		d := streamers[streamNames[int(from)%len(streamNames)]]
		_, want, err := read(t, d, stream)
		if err != nil {
			return
		}
		_, got, err := read(t, d, stream[:n])
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("cut at %d of %d it is whole, but (-want +got):\n%s", n, len(stream), diff)
		}
	})
}

// What a provider streams is read in order or refused, and survives being written in any
// dialect and read again.
func FuzzStreams(f *testing.F) {
	eachReply(f, func(from byte, stream []byte) { f.Add(from, stream) })
	f.Fuzz(func(t *testing.T, from byte, stream []byte) {
		name := streamNames[int(from)%len(streamNames)]
		all, want, err := read(t, streamers[name], stream)
		if err != nil || !want.valid() {
			return
		}
		for to, d := range streamers {
			w := d.NewWriter(dialect.WriterOptions{Usage: true, Origin: "elsewhere"})
			var out []byte
			for i := range all {
				out = w.Write(out, &all[i])
			}
			if !slices.ContainsFunc(all, func(e dialect.Event) bool { return e.Kind == dialect.Start }) {
				continue // there was nothing but usage
			}
			_, got, err := read(t, d, out)
			if err != nil {
				t.Fatalf("what is written as %s can't be read: %v\n%s", to, err, out)
			}
			if !got.valid() {
				t.Fatalf("the calls are broken in %s:\n%s", to, out)
			}
			expected := want
			told := want.Reason == "length" || want.Reason == "content_filter"
			if to == "gemini" || to == "chat" && want.Reason == "pause" || to == "responses" && !told { // which have no words for all of them
				got.Reason, expected.Reason = "", ""
			}
			if diff := cmp.Diff(expected, got); diff != "" {
				t.Fatalf("from %s to %s (-want +got):\n%s\n%s", name, to, diff, out)
			}
		}
	})
}

// Errors in streams are read as what they are.
func TestStreamErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		data   string
		status int
	}{
		"chat":     {`{"error":{"message":"slow down","type":"rate_limit_error"}}`, 429},
		"messages": {`{"type":"error","error":{"type":"overloaded_error","message":"slow down"}}`, 529},
		"gemini":   {`{"error":{"code":503,"message":"slow down","status":"UNAVAILABLE"}}`, 503},
	} {
		_, err := streamers[name].NewReader().Read("", []byte(tt.data))
		var e *dialect.Error
		if !errors.As(err, &e) || e.Status != tt.status || e.Message != "slow down" {
			t.Errorf("%s: %v", name, err)
		}
		if s := fmt.Sprint(err); !strings.Contains(s, "slow down") {
			t.Errorf("%s: %s", name, s)
		}
	}
}
