package accesslog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A File is the sink of a file, to which whole lines are appended. It is opened with the first entry, and opened anew when
// the file of its name is another one, as after a rotation, or after [File.Reopen]. /dev/stdout and /dev/stderr are those of
// the process.
type File struct {
	*queue[[]byte]
	path   string
	reopen atomic.Bool

	file    *os.File
	own     bool      // it was opened here
	checked time.Time // when it was last looked whether it is the file of its name
	failed  time.Time // when it last could not be opened or written
	opened  os.FileInfo
}

// lines are the buffers of rendered lines.
var lines = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// NewFile returns the sink of the file at path.
func NewFile(path string, opts Options) *File {
	f := &File{path: path}
	f.queue = newQueue(opts, f.send, f.finish)
	return f
}

// Reopen has the file be opened anew before the next line.
func (f *File) Reopen() { f.reopen.Store(true) }

// ToFile returns a log that renders lines for a File.
func ToFile(format *Format, filter Filter) *Log {
	return &Log{Filter: filter, header: format.header, render: func(e *Entry) any {
		return format.Append(*lines.Get().(*[]byte), e)
	}}
}

// send writes lines, in one write.
func (f *File) send(batch [][]byte) (lost int) {
	defer func() {
		for _, line := range batch {
			if line = line[:0]; cap(line) <= 16<<10 {
				lines.Put(&line)
			}
		}
	}()
	if err := f.open(time.Now()); err != nil {
		return len(batch)
	}
	var all []byte
	for _, line := range batch {
		all = append(all, line...)
	}
	n, err := f.file.Write(all)
	if err == nil {
		return 0
	}
	f.fail(fmt.Errorf("writing the access log: %w", err))
	f.finish()
	for _, line := range batch { // those that were written whole are not lost
		if n -= len(line); n < 0 {
			lost++
		}
	}
	return lost
}

// open has the file be the one of its name.
func (f *File) open(now time.Time) error {
	if f.file != nil && (f.reopen.Swap(false) || f.moved(now)) {
		f.finish()
	}
	switch {
	case f.file != nil:
		return nil
	case now.Sub(f.failed) < retryAfter:
		return io.ErrClosedPipe
	}
	var err error
	switch f.path {
	case "/dev/stdout":
		f.file, f.own = os.Stdout, false
	case "/dev/stderr":
		f.file, f.own = os.Stderr, false
	default:
		f.file, err = os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		f.own = err == nil
		if err == nil {
			f.opened, err = f.file.Stat()
		}
	}
	f.checked = now
	if err != nil {
		f.fail(fmt.Errorf("opening the access log: %w", err))
		f.finish()
	}
	return err
}

// moved reports, once a second, whether the file of that name is another one now.
func (f *File) moved(now time.Time) bool {
	if !f.own || now.Sub(f.checked) < time.Second {
		return false
	}
	f.checked = now
	at, err := os.Stat(f.path)
	return err != nil || !os.SameFile(at, f.opened)
}

// fail says what is wrong, once a second at the most.
func (f *File) fail(err error) {
	f.failed = time.Now()
	if f.opts.Logger != nil {
		f.opts.Logger.Warn("entries of an access log are lost", slog.String("log", f.opts.Name), slog.Any("error", err))
	}
}

// finish closes the file.
func (f *File) finish() {
	if f.file != nil && f.own {
		_ = f.file.Close() // a failed write has been told
	}
	f.file, f.own = nil, false
}
