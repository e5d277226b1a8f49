package events_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/events"
)

// readEvents returns all events of r, with copies of their data, and the error
// that ended them, nil for io.EOF.
func readEvents(r io.Reader, max int) (out []events.Event, lastID string, err error) {
	er := events.NewReader(r, max)
	for {
		ev, err := patient(er)
		if err != nil {
			if _, again := patient(er); again != err {
				panic("another error the second time: " + again.Error())
			}
			if err == io.EOF {
				err = nil
			}
			return out, er.LastEventID(), err
		}
		if ev.Data != nil {
			ev.Data = append([]byte{}, ev.Data...)
		}
		out = append(out, ev)
	}
}

func TestReader(t *testing.T) {
	data := func(s string) events.Event { return events.Event{Data: []byte(s), Retry: -1} }
	for _, tt := range []struct {
		name, in string
		want     []events.Event
		lastID   string
		err      error
	}{
		{"nothing", "", nil, "", nil},
		{"one", "data: a\n\n", []events.Event{data("a")}, "", nil},
		{"CR", "data: a\r\rdata: b\r\r", []events.Event{data("a"), data("b")}, "", nil},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []events.Event{data("a"), data("b")}, "", nil},
		{"mixed line breaks", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\n", []events.Event{data("a\nb\nc"), data("d")}, "", nil},
		{"byte order mark", "\uFEFFdata: a\n\n", []events.Event{data("a")}, "", nil},
		{"a second byte order mark is part of a name", "\uFEFF\uFEFFdata: a\n\n", nil, "", nil},
		{"half a byte order mark", "\xef\xbbdata: a\n\ndata: b\n\n", []events.Event{data("b")}, "", nil},
		{"only a byte order mark", "\uFEFF", nil, "", nil},
		{"comments", ":\n: x\n:data: y\ndata: a\n: z\n\n:end\n\n", []events.Event{data("a")}, "", nil},
		{"no space, two spaces, tab", "data:a\ndata:  b\ndata:\tc\n\n", []events.Event{data("a\n b\n\tc")}, "", nil},
		{"colons in data", "data: a: b:c\n\n", []events.Event{data("a: b:c")}, "", nil},
		{"data without colon", "data\ndata\n\n", []events.Event{data("\n")}, "", nil},
		{"empty data is data", "data:\n\n", []events.Event{data("")}, "", nil},
		{"NUL in data", "data: \x00\n\n", []events.Event{data("\x00")}, "", nil},
		{"unknown fields", "foo: 1\nDATA: x\ndatax: y\n data: z\ndata: a\n\n", []events.Event{data("a")}, "", nil},
		{"no data: nothing comes out", "event: x\n\nfoo\n\n\n\ndata: a\n\n", []events.Event{data("a")}, "", nil},
		{"type", "event: x\ndata: a\n\ndata: b\n\nevent: x\nevent: y\ndata: c\n\n", []events.Event{
			{Type: "x", Data: []byte("a"), Retry: -1}, data("b"), {Type: "y", Data: []byte("c"), Retry: -1},
		}, "", nil},
		{"id", "id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\nid:3\n\n", []events.Event{
			{ID: "1", Data: []byte("a"), Retry: -1}, data("b"), {ID: "2", Retry: -1}, {ID: "3", Data: []byte("c"), Retry: -1},
		}, "3", nil},
		{"empty id resets", "id: 1\ndata: a\n\nid\ndata: b\n\n", []events.Event{{ID: "1", Data: []byte("a"), Retry: -1}, data("b")}, "", nil},
		{"id with NUL is ignored", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []events.Event{{ID: "1", Data: []byte("a"), Retry: -1}, data("b")}, "1", nil},
		{"id of an event that never ended", "id: 1\ndata: a\n\nid: 2\ndata: b\n", []events.Event{{ID: "1", Data: []byte("a"), Retry: -1}}, "1", io.ErrUnexpectedEOF},
		{"priming event", "id: 7\ndata:\n\n", []events.Event{{ID: "7", Data: []byte{}, Retry: -1}}, "7", nil},
		{"retry", "retry: 3000\n\nretry: 10\ndata: a\n\n", []events.Event{{Retry: 3000}, {Retry: 10, Data: []byte("a")}}, "", nil},
		{"retry that is no number", "retry: 1s\n\nretry: -1\n\nretry:\n\nretry: 9999999999999999\n\nretry: ٣\n\nretry: 0\n\n", []events.Event{{Retry: 0}}, "", nil},
		{"ends inside an event", "data: a\n\ndata: b\n", []events.Event{data("a")}, "", io.ErrUnexpectedEOF},
		{"ends inside a line", "data: a\n\ndata: b", []events.Event{data("a")}, "", io.ErrUnexpectedEOF},
		{"ends inside a name", "da", nil, "", io.ErrUnexpectedEOF},
		{"ends inside a comment", "data: a\n\n: keep", []events.Event{data("a")}, "", nil},
		{"ends after CR", "data: a\r\n\r", []events.Event{data("a")}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []struct {
				name string
				io.Reader
			}{
				{"at once", strings.NewReader(tt.in)},
				{"byte by byte", iotest.OneByteReader(strings.NewReader(tt.in))},
				{"halves", iotest.HalfReader(strings.NewReader(tt.in))},
				{"nothing there between bytes", &shyReader{r: strings.NewReader(tt.in)}},
				{"EOF with the data", iotest.DataErrReader(strings.NewReader(tt.in))},
			} {
				got, lastID, err := readEvents(r, 0)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: (-want +got):\n%s", r.name, diff)
				}
				if lastID != tt.lastID || err != tt.err {
					t.Errorf("%s: last id %q, error %v", r.name, lastID, err)
				}
			}
		})
	}
}

// TestReaderLimit reads events that are one below, at and one above the
// limit, and sizes where scanners with a fixed buffer cut events short.
func TestReaderLimit(t *testing.T) {
	const cap = 16 << 20
	for _, size := range []int{0, 1, 4095, 4096, 4097, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 - 1, 1<<20 + 1, 4 << 20, cap - 1, cap, cap + 1} {
		for _, prefix := range []string{"data: ", "id: x\ndata:"} {
			in := prefix + strings.Repeat("x", size) + "\n\ndata: after\n\n"
			got, _, err := readEvents(strings.NewReader(in), 0)
			switch {
			case size > cap:
				if err != events.ErrTooLarge || len(got) != 0 {
					t.Errorf("%d bytes: %d events, error %v", size, len(got), err)
				}
			case err != nil || len(got) != 2 || len(got[0].Data) != size || string(got[1].Data) != "after":
				t.Errorf("%d bytes: %d events, error %v", size, len(got), err)
			}
		}
	}
	for _, tt := range []struct {
		name, in string
		max      int
		err      error
	}{
		{"lines count with the line feeds between them", "data: ab\ndata: cd\n\n", 5, nil},
		{"and not a byte more", "data: ab\ndata: cd\n\n", 4, events.ErrTooLarge},
		{"empty lines count", strings.Repeat("data\n", 7) + "\n", 6, nil},
		{"and not a line more", strings.Repeat("data\n", 8) + "\n", 6, events.ErrTooLarge},
		{"each event for itself", strings.Repeat("data: abcd\n\n", 10), 4, nil},
		{"type of 64 KiB", "event: " + strings.Repeat("x", 64<<10-7) + "\ndata: a\n\n", 0, nil},
		{"and not a byte more", "event: " + strings.Repeat("x", 64<<10-6) + "\ndata: a\n\n", 0, events.ErrTooLarge},
		{"name without end", strings.Repeat("x", 64<<10+1), 0, events.ErrTooLarge},
		{"comment of any length", ": " + strings.Repeat("x", 1<<20) + "\ndata: a\n\n", 4, nil},
	} {
		if _, _, err := readEvents(strings.NewReader(tt.in), tt.max); err != tt.err {
			t.Errorf("%s: error is %v", tt.name, err)
		}
	}
}

// TestReaderDoesNotWait gives the reader one byte at a time and asks for an
// event as soon as its last byte was given: it must not read on.
func TestReaderDoesNotWait(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r"} {
		in := "data: a" + end
		r := events.NewReader(io.MultiReader(
			iotest.OneByteReader(strings.NewReader(in)),
			iotest.ErrReader(errors.New("read on")),
		), 0)
		if ev, err := r.Next(); err != nil || string(ev.Data) != "a" {
			t.Errorf("after %q: event %+v, error %v", end, ev, err)
		}
		if _, err := r.Next(); err == nil || err.Error() != "read on" {
			t.Errorf("after %q: the error of the stream is %v", end, err)
		}
	}
}

// stutter is a reader that reads nothing.
// A shyReader returns a byte at a time, and before each that there is nothing yet.
type shyReader struct {
	r   io.Reader
	shy bool
}

func (r *shyReader) Read(p []byte) (int, error) {
	if r.shy = !r.shy; r.shy {
		return 0, syscall.EAGAIN
	}
	return r.r.Read(p[:1])
}

// patient calls Next again as long as there is nothing yet.
func patient(r *events.Reader) (events.Event, error) {
	for {
		if ev, err := r.Next(); err != syscall.EAGAIN {
			return ev, err
		}
	}
}

type stutter struct{}

func (stutter) Read([]byte) (int, error) { return 0, nil }

func TestReaderNoProgress(t *testing.T) {
	if _, err := events.NewReader(stutter{}, 0).Next(); err != io.ErrNoProgress {
		t.Errorf("error is %v", err)
	}
}

// TestReaderAllocs: a stream of events of one type costs no allocation an
// event.
func TestReaderAllocs(t *testing.T) {
	const count = 1000
	stream := strings.Repeat("event: message\ndata: {\"jsonrpc\":\"2.0\",\n: x\ndata: \"method\":\"a\"}\n\n", count)
	got := testing.AllocsPerRun(5, func() {
		r := events.NewReader(strings.NewReader(stream), 0)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	})
	if got > 20 {
		t.Errorf("%v allocations for %d events", got, count)
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name string
		ev   events.Event
		want string
	}{
		{"data", events.Event{Data: []byte(`{"a":1}`)}, "data: {\"a\":1}\n\n"},
		{"all", events.Event{Type: "message", ID: "7", Retry: 100, Data: []byte("a")}, "event: message\nid: 7\nretry: 100\ndata: a\n\n"},
		{"no data", events.Event{ID: "7", Retry: -1}, "id: 7\n\n"},
		{"empty data", events.Event{ID: "7", Data: []byte{}}, "id: 7\ndata: \n\n"},
		{"line breaks", events.Event{Data: []byte("a\nb\rc\r\nd\n")}, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		{"injection", events.Event{Type: "a\ndata: b", ID: "1\r\x002", Data: []byte("c")}, "event: adata: b\nid: 12\ndata: c\n\n"},
	} {
		if got := string(events.Append([]byte("x"), tt.ev)); got != "x"+tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if events, _, err := readEvents(strings.NewReader(events.Keepalive+events.Keepalive), 0); events != nil || err != nil {
		t.Errorf("keep-alives are events %v, error %v", events, err)
	}
}

// FuzzEvents: however a stream is cut into reads, the same events come out;
// written again and read again they are the same.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{
		"data: a\n\n", "\uFEFFid: 1\r\nevent: x\r\ndata: a\r\ndata: b\r\n\r\n", "data\r\rdata:\n\n", ":c\n\nretry: 5\n\n",
		"id: a\x00\ndata: b\n\n", "data: " + strings.Repeat("x", 40) + "\n\n", "\xef\xbb", "data: a\n\ndata: b",
	} {
		f.Add([]byte(s), []byte{1, 2, 3})
		f.Add([]byte(s), []byte{0, 7})
	}
	const max = 32
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		want, wantID, wantErr := readEvents(bytes.NewReader(in), max)
		got, gotID, gotErr := readEvents(&cutReader{in: in, cuts: cuts}, max)
		if diff := cmp.Diff(want, got); diff != "" || gotID != wantID || gotErr != wantErr {
			t.Errorf("%q cut by %v: last id %q and %q, errors %v and %v (-whole +cut):\n%s", in, cuts, wantID, gotID, wantErr, gotErr, diff)
		}
		var out []byte
		for _, ev := range want {
			if ev.Retry == 0 {
				return // which is not written
			}
			out = events.Append(out, ev)
		}
		again, _, err := readEvents(bytes.NewReader(out), max)
		if diff := cmp.Diff(want, again); diff != "" || err != nil {
			t.Errorf("%q was written as %q, error %v (-read +read again):\n%s", in, out, err, diff)
		}
	})
}

// A cutReader returns its input in pieces whose lengths are the cuts, again and
// again.
type cutReader struct {
	in, cuts []byte
	i        int
}

func (r *cutReader) Read(p []byte) (int, error) {
	if len(r.in) == 0 {
		return 0, io.EOF
	}
	n := len(r.in)
	if len(r.cuts) > 0 {
		n = min(n, int(r.cuts[r.i%len(r.cuts)]%16)+1)
		r.i++
	}
	n = copy(p[:min(n, len(p))], r.in)
	r.in = r.in[n:]
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	event := "event: message\ndata: " + `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"demo_add","arguments":{"a":1,"b":2}}}` + "\n\n"
	stream := strings.Repeat(event, 1000)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		r := events.NewReader(strings.NewReader(stream), 0)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}

// Ready tells of an event that was read whole with the one before it.
func TestReady(t *testing.T) {
	for _, end := range []string{"\n", "\r\n"} {
		event := "data: a" + end + end
		r := events.NewReader(strings.NewReader(strings.Repeat(event, 3)+"data: a"+end), 0)
		for _, want := range []bool{true, true, false} {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			if r.Ready() != want {
				t.Errorf("line end %q: Ready is %v", end, !want)
			}
		}
	}
	if events.NewReader(strings.NewReader("data: a\n\n"), 0).Ready() {
		t.Error("nothing was read yet")
	}
}
