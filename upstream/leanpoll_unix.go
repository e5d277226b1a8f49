//go:build unix

package upstream

import (
	"io"
	"syscall"
)

// canRest says that there are responses that need no goroutine that waits.
const canRest = true

// ask sends a request on the connection, whose buffer is empty, and waits for the beginning of what comes back, which it
// reads into the buffer. It returns how much was sent. On a connection that served before and that the peer has closed
// since, or said something on that nobody asked for, nothing is sent: errStale.
//
// All of it is one raw read. The look at what was idle finds nothing to read; from there on the poller notes
// whatever comes, so that there is no need to try to read what can't be there yet.
func (c *leanConn) ask(request []byte) (sent int, err error) {
	if c.raw == nil {
		return c.Conn.Write(request)
	}
	c.request, c.sent = request, 0
	err = c.read()
	c.request = nil
	return c.sent, err
}

// await reads something into the buffer, which is empty, and holds none while it waits.
func (c *leanConn) await() error {
	if c.raw == nil {
		return c.fill()
	}
	c.release()
	return c.read()
}

// read has the poller call turn until there is something.
func (c *leanConn) read() error {
	if c.poll == nil {
		c.poll = c.turn
	}
	if err := c.raw.Read(c.poll); err != nil {
		return err
	}
	err := c.polled
	c.polled = nil
	return err
}

// turn sends what is to be sent, or else reads what has arrived. It reports whether there is nothing to wait for.
func (c *leanConn) turn(fd uintptr) bool {
	if c.request == nil {
		return c.arrived(fd)
	}
	request := c.request
	c.request = nil
	if c.reused && !silent(fd) {
		c.polled = errStale
		return true
	}
	c.sent, c.polled = c.Conn.Write(request)
	return c.polled != nil
}

// silent reports whether the peer has neither closed the connection nor sent anything on it. Without a goroutine
// that reads from idle connections, this look is how it is found out.
func silent(fd uintptr) bool {
	var one [1]byte
	n, err := syscall.Read(int(fd), one[:])
	return n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
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
		if c.noWait {
			c.polled = err
		}
		return c.noWait
	case err == nil:
		err = io.EOF
	}
	c.polled = err
	return true
}
