package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A blockingConn is a connected socket that is used by blocking system calls.
type blockingConn struct {
	net.Conn
	file *os.File
	fd   int
}

// newBlocking makes the socket of conn blocking, with a timeout of its own.
func newBlocking(conn net.Conn, timeout time.Duration) (net.Conn, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.New("blocking mode is for plain TCP")
	}
	file, err := tcp.File()
	if err != nil {
		return nil, err
	}
	fd := int(file.Fd()) // puts the socket in blocking mode
	tv := syscall.NsecToTimeval(int64(timeout))
	for _, opt := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, opt, &tv); err != nil {
			return nil, err
		}
	}
	return &blockingConn{conn, file, fd}, nil
}

func (c *blockingConn) Read(p []byte) (int, error) {
	for {
		n, err := syscall.Read(c.fd, p)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (c *blockingConn) Write(p []byte) (int, error) {
	for sent := 0; ; {
		n, err := syscall.Write(c.fd, p[sent:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return sent, err
		}
		if sent += n; sent == len(p) {
			return sent, nil
		}
	}
}

// SetDeadline does nothing: the socket has a timeout for each call.
func (c *blockingConn) SetDeadline(time.Time) error { return nil }

func (c *blockingConn) Close() error { return errors.Join(c.file.Close(), c.Conn.Close()) }
