//go:build unix

package upstream

import (
	"io"
	"syscall"
)

// quiet reports whether the peer has neither closed the idle connection nor sent anything on
// it. Without a goroutine that reads, this look is how it is found out.
func (c *leanConn) quiet() bool {
	if c.raw == nil {
		return true
	}
	if c.look == nil {
		c.look = func(fd uintptr) bool {
			var one [1]byte
			n, err := syscall.Read(int(fd), one[:])
			c.silent = n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
			return true
		}
	}
	return c.raw.Read(c.look) == nil && c.silent
}

// await reads something into the buffer, which is empty, and holds none while it waits.
func (c *leanConn) await() error {
	if c.raw == nil {
		return c.fill()
	}
	if c.poll == nil {
		c.poll = c.arrived
	}
	c.release()
	if err := c.raw.Read(c.poll); err != nil {
		return err
	}
	err := c.polled
	c.polled = nil
	return err
}

// arrived reads what has arrived, and reports whether that was anything.
func (c *leanConn) arrived(fd uintptr) bool {
	c.buf = readBuffers.Get().(*[readSize]byte)[:]
	n, err := syscall.Read(int(fd), c.buf)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), c.buf)
	}
	switch {
	case n > 0:
		c.end = n
		return true
	case err == syscall.EAGAIN:
		c.release()
		return false
	case err == nil:
		err = io.EOF
	}
	c.polled = err
	return true
}
