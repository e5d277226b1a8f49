package accesslog

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func toFile(t *testing.T, path string, opts Options) (*Log, *File) {
	t.Helper()
	format, err := CompileText("%RESPONSE_CODE%")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFile(path, opts)
	t.Cleanup(f.Close)
	l := ToFile(format, nil)
	l.Sink = f
	return l, f
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A queue takes no more than it has room for, counts the rest, and holds up nobody.
func TestQueueIsBounded(t *testing.T) {
	release, sending := make(chan struct{}), make(chan struct{}, maxQueued)
	var dropped, sent atomic.Int64
	q := newQueue(Options{Dropped: func(n int) { dropped.Add(int64(n)) }}, func(b []int) int {
		sending <- struct{}{}
		<-release
		sent.Add(int64(len(b)))
		return 0
	}, func() {})
	for range maxBatch {
		q.put(1)
	}
	<-sending // it has a batch, and is stuck
	for range maxQueued + 10 {
		q.put(1)
	}
	if n := dropped.Load(); n != 10 {
		t.Errorf("%d dropped", n)
	}
	close(release)
	q.Close()
	if n := sent.Load(); n != maxBatch+maxQueued {
		t.Errorf("%d sent", n)
	}
}

// A file is appended to, whole lines, and opened anew when it was moved.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, f := toFile(t, path, Options{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				l.Write(full())
			}
		})
	}
	all.Wait()
	f.Close()
	if got, want := read(t, path), "before\n"+strings.Repeat("200\n", 800); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}

	g := &File{queue: &queue[[]byte]{}, path: path}
	line := func(s string) [][]byte { return [][]byte{[]byte(s)} }
	if lost := g.send(line("1\n")); lost != 0 {
		t.Error(lost)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	g.send(line("2\n")) // it is not looked each time
	g.checked = g.checked.Add(-time.Second)
	g.send(line("3\n"))
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	g.Reopen()
	g.send(line("4\n"))
	g.finish()
	if !strings.HasSuffix(read(t, path+".1"), "200\n1\n2\n") || read(t, path+".2") != "3\n" || read(t, path) != "4\n" {
		t.Errorf("%q, %q", read(t, path+".2"), read(t, path))
	}
}

// What can't be written is counted, and written again once it can.
func TestFileFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	var dropped atomic.Int64
	l, f := toFile(t, filepath.Join(dir, "log"), Options{Dropped: func(n int) { dropped.Add(int64(n)) }})
	for range 3 {
		l.Write(full())
	}
	f.Close()
	if n := dropped.Load(); n != 3 {
		t.Errorf("%d lost", n)
	}
	g := &File{queue: &queue[[]byte]{}, path: filepath.Join(dir, "log")}
	g.send([][]byte{[]byte("lost\n")})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g.send([][]byte{[]byte("too soon\n")})
	g.failed = g.failed.Add(-retryAfter)
	g.send([][]byte{[]byte("kept\n")})
	g.finish()
	if got := read(t, g.path); got != "kept\n" {
		t.Errorf("%q", got)
	}
}

// Collectors get entries over HTTP in either form.
func TestOverHTTP(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		got := make(chan *collector.ExportLogsServiceRequest, 1)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			m := new(collector.ExportLogsServiceRequest)
			err := proto.Unmarshal(b, m)
			if r.Header.Get("Content-Type") == "application/json" {
				err = protojson.Unmarshal(b, m)
			}
			if err != nil || r.URL.Path != "/v1/logs" {
				w.WriteHeader(http.StatusBadRequest)
			}
			got <- m
		}))
		body, err := CompileString("%REQ(:METHOD)%")
		if err != nil {
			t.Fatal(err)
		}
		shape := &OTel{Body: body, Name: "n", Attributes: []Attribute{{"code", body}}, Resource: map[string]string{"service.name": "gw.ns", "a": "b"}}
		tr := &http.Transport{}
		l := ToCollector(shape, nil)
		c := NewCollector(shape, OverHTTP(tr, s.URL+"/v1/logs", asJSON), Options{Dropped: func(n int) { t.Errorf("%d lost", n) }})
		l.Sink = c
		l.Write(full())
		m := <-got
		c.Close()
		tr.CloseIdleConnections()
		s.Close()
		r := m.ResourceLogs[0]
		record := r.ScopeLogs[0].LogRecords[0]
		if r.Resource.Attributes[1].Value.GetStringValue() != "gw.ns" || record.Body.GetStringValue() != "POST" || record.Attributes[0].Key != "code" || r.ScopeLogs[0].Scope.Name != "n" {
			t.Errorf("JSON %v: %v", asJSON, m)
		}
	}
}
