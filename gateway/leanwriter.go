package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A leanWriter is the [http.ResponseWriter] of a leanServer. It holds back an answer up to a bound, so that
// it goes out at once and with its length, unless it is flushed.
type leanWriter struct {
	conn   *leanConn
	body   *leanRequestBody
	header http.Header
	status int // 0 before WriteHeader

	buf      []byte // what is to be written next: the head from WriteHeader on
	held     []byte // the body of an answer whose length is not known yet
	declared int64  // Content-Length, -1 without
	size     int64  // of the body so far
	begun    bool   // the head is complete: what follows in buf is the body
	typed    bool   // it has a Content-Type, or is to have none
	dated    bool
	chunked  bool
	bodiless bool
	wrong    bool // it is not of the length that it says
	close    bool // the connection ends after the answer
	err      error
}

var leanBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func takeBuffer() []byte { return (*leanBuffers.Get().(*[]byte))[:0] }

func giveBack(b []byte) {
	if b != nil && cap(b) <= 2*leanHold {
		kept := b // which is what escapes: most have nothing to give back
		leanBuffers.Put(&kept)
	}
}

// Header implements [http.ResponseWriter].
func (w *leanWriter) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter]. Informational responses are written at once.
func (w *leanWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status < 200 {
		w.inform(status)
		return
	}
	w.status = status
	w.bodiless = status == http.StatusNoContent || status == http.StatusNotModified
	w.close = w.close || w.conn.lean.closing.Load() || !w.body.there()
	b := append(strconv.AppendInt(append(takeBuffer(), "HTTP/1.1 "...), int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\n"...)
	for name, values := range w.header {
		switch name {
		case "Content-Length":
			if n, err := strconv.ParseInt(strings.Join(values, ","), 10, 64); err == nil && n >= 0 {
				w.declared = n
			}
			continue
		case "Connection":
			w.close = w.close || httpguts.HeaderValuesContainsToken(values, "close")
			continue
		case "Transfer-Encoding":
			continue
		case "Content-Type", "Content-Encoding":
			w.typed = true
		case "Date":
			w.dated = true
		}
		if strings.HasPrefix(name, http.TrailerPrefix) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	w.buf = b
}

// inform writes an informational response.
func (w *leanWriter) inform(status int) {
	b := append(strconv.AppendInt(append(takeBuffer(), "HTTP/1.1 "...), int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\n"...)
	for name, values := range w.header {
		if name == "Content-Length" || name == "Transfer-Encoding" || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	w.buf = append(b, "\r\n"...)
	w.send()
}

// Write implements [http.ResponseWriter].
func (w *leanWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case len(b) == 0:
		return 0, nil
	case w.bodiless:
		return 0, http.ErrBodyNotAllowed
	case w.declared >= 0 && w.size+int64(len(b)) > w.declared:
		w.wrong = true
		return 0, http.ErrContentLength
	}
	if !w.typed {
		w.typed = true
		if !w.begun {
			w.buf = appendField(w.buf, "Content-Type", http.DetectContentType(b))
		}
	}
	w.size += int64(len(b))
	if !w.begun && (w.declared >= 0 || len(w.held)+len(b) > leanHold) {
		w.begin()
	}
	if !w.begun {
		if w.held == nil {
			w.held = takeBuffer()
		}
		w.held = append(w.held, b...)
		return len(b), nil
	}
	w.append(b)
	if len(w.buf) > leanHold {
		w.send()
	}
	return len(b), w.err
}

// begin completes the head of an answer whose length is declared, or not known before its end.
func (w *leanWriter) begin() {
	w.chunked = w.declared < 0 && !w.bodiless
	w.endHead(w.declared)
	if len(w.held) > 0 {
		w.append(w.held)
	}
	giveBack(w.held)
	w.held = nil
}

// endHead completes the head, with the length of the body unless it is chunked.
func (w *leanWriter) endHead(length int64) {
	w.begun = true
	b := w.buf
	if !w.dated {
		b = append(time.Now().UTC().AppendFormat(append(b, "Date: "...), http.TimeFormat), "\r\n"...)
	}
	switch {
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case !w.bodiless:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), length, 10), "\r\n"...)
	}
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	w.buf = append(b, "\r\n"...)
}

// append appends a part of the body to what is to be written, as it is framed.
func (w *leanWriter) append(b []byte) {
	if w.buf == nil {
		w.buf = takeBuffer()
	}
	if !w.chunked {
		w.buf = append(w.buf, b...)
		return
	}
	w.buf = append(strconv.AppendInt(w.buf, int64(len(b)), 16), "\r\n"...)
	w.buf = append(append(w.buf, b...), "\r\n"...)
}

// appendField appends a header line. What would end it early becomes space.
func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	from := len(dst)
	dst = append(dst, value...)
	for i, c := range dst[from:] {
		if c == '\r' || c == '\n' {
			dst[from+i] = ' '
		}
	}
	return append(dst, "\r\n"...)
}

// send writes what there is.
func (w *leanWriter) send() {
	if len(w.buf) > 0 && w.err == nil {
		_, w.err = w.conn.wire.Write(w.buf)
	}
	giveBack(w.buf)
	w.buf = nil
}

// FlushError implements what [http.ResponseController] flushes with.
func (w *leanWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		w.begin()
	}
	w.send()
	return w.err
}

var errLength = errors.New("the answer is not of the length that it says")

// finish ends the answer.
func (w *leanWriter) finish() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	trailers := w.trailers()
	switch {
	case w.begun:
	case len(trailers) > 0, w.declared >= 0:
		w.begin()
	default:
		w.endHead(int64(len(w.held)))
		w.append(w.held)
		giveBack(w.held)
		w.held = nil
	}
	if w.chunked {
		if w.buf == nil {
			w.buf = takeBuffer()
		}
		w.buf = append(w.buf, "0\r\n"...)
		for _, name := range trailers {
			for _, v := range w.header[name] {
				w.buf = appendField(w.buf, strings.TrimPrefix(name, http.TrailerPrefix), v)
			}
		}
		w.buf = append(w.buf, "\r\n"...)
	}
	w.send()
	if w.err == nil && !w.bodiless && (w.wrong || w.declared > w.size) {
		return errLength
	}
	return w.err
}

// trailers returns the names of the trailers in the header: those with the prefix, and those that
// were announced.
func (w *leanWriter) trailers() (names []string) {
	for name := range w.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			names = append(names, name)
		}
	}
	for _, line := range w.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); w.header[name] != nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// SetReadDeadline implements what [http.ResponseController] calls.
func (w *leanWriter) SetReadDeadline(t time.Time) error { return w.conn.wire.SetReadDeadline(t) }

// SetWriteDeadline implements what [http.ResponseController] calls.
func (w *leanWriter) SetWriteDeadline(t time.Time) error { return w.conn.wire.SetWriteDeadline(t) }

// EnableFullDuplex implements what [http.ResponseController] calls: body and answer are
// independent anyway.
func (w *leanWriter) EnableFullDuplex() error { return nil }

var _ io.Writer = (*leanWriter)(nil)
