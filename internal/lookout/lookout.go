// Package lookout waits for many connections at once, where a goroutine for each would have a stack for each.
//
// The central type is [Lookout]. Package gateway waits with one for the clients of silent streams to leave, package
// upstream for servers to say something on them. Where the system has no epoll there is none, and who asks for it is told so.
package lookout

import "syscall"

// A Watch is one connection that a [Lookout] waits for. The zero Watch is ready for use. It must not be copied.
type Watch struct {
	token   uint64 // 0 while it is not watched; descriptors come again, tokens do not
	arrived func()
}

// control calls f with the descriptor of a connection.
func control(conn syscall.RawConn, f func(fd int) error) error {
	var err error
	if failed := conn.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}
