//go:build !unix

package upstream

// quiet can't look at the connection here: whether the peer has closed it shows when it is used.
func (c *leanConn) quiet() bool { return true }

// await reads something into the buffer, which is empty.
func (c *leanConn) await() error { return c.fill() }
