package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

var errSwitch = errors.New("the upstream switched to a protocol that was not asked for")

// switchProtocols passes a 101 on and copies bytes both ways until one side ends
// (RFC 9110 section 7.8). asked is the protocol the client asked for.
func switchProtocols(w http.ResponseWriter, r *http.Request, resp *http.Response, asked string) error {
	up, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || asked == "" || !strings.EqualFold(upgradeType(resp.Header), asked) {
		_ = resp.Body.Close() // an answer that nobody reads
		return fault.Wrap(fault.UpstreamFailed, errSwitch, "the upstream failed")
	}
	defer func() { _ = up.Close() }() // both ends are closed: there is nobody to tell
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "internal error")
	}
	defer func() { _ = conn.Close() }() // likewise

	rec := telemetry.FromContext(r.Context())
	rec.Status = http.StatusSwitchingProtocols
	header := resp.Header.Clone()
	removeHop(header)
	header["Connection"] = []string{"Upgrade"}
	header["Upgrade"] = []string{asked}
	if m, ok := w.(interface{ Modify(http.Header) }); ok {
		m.Modify(header)
	}
	if err := writeSwitch(rw, header); err != nil {
		rec.ErrorType, rec.Err = fault.ClientGone.String(), err
		return nil
	}
	stop := closeOnDone(r, conn, up)
	defer stop()
	ended := make(chan int64, 2)
	go func() { ended <- pass(up, rw.Reader) }()
	go func() { ended <- pass(conn, up) }()
	<-ended
	_ = conn.Close() // so that the other direction ends, too
	_ = up.Close()
	<-ended
	return nil
}

// closeOnDone closes both sides when the request's context ends; the connection is
// hijacked, so nobody else does.
func closeOnDone(r *http.Request, conn net.Conn, up io.Closer) (stop func()) {
	over := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		select {
		case <-r.Context().Done():
			_ = conn.Close()
			_ = up.Close()
		case <-over:
		}
	}()
	return func() { close(over); <-finished }
}

func writeSwitch(rw *bufio.ReadWriter, header http.Header) error {
	if _, err := rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n"); err != nil {
		return err
	}
	if err := header.Write(rw); err != nil {
		return err
	}
	if _, err := rw.WriteString("\r\n"); err != nil {
		return err
	}
	return rw.Flush()
}

// pass copies from one side to the other and returns how much.
func pass(to io.Writer, from io.Reader) int64 {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, _ := io.CopyBuffer(onlyWriter{to}, onlyReader{from}, *buf) // how a tunnel ends is the peers' affair
	return n
}

// onlyWriter and onlyReader hide the methods by which io.CopyBuffer would pass by
// the buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
