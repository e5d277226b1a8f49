//go:build !unix

package upstream

// canRest says that there are no responses that need no goroutine that waits.
const canRest = false

// ask sends a request. It can't look at the connection here: whether the peer has closed it shows when it is used.
func (c *leanConn) ask(request []byte) (sent int, err error) { return c.Conn.Write(request) }

// await reads something into the buffer, which is empty.
func (c *leanConn) await() error { return c.fill() }
