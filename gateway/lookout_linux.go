package gateway

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A lookout waits for the clients of detached answers to leave. One goroutine with one epoll does it for all of them,
// where a goroutine for each would have a stack for each. There are both while there is something to wait for. The
// epoll waits in that of the runtime, so that no thread is held. It is safe for concurrent use.
type lookout struct {
	mu      sync.Mutex
	poll    *os.File // nil while nothing is watched
	watched map[uint64]*detached
	last    uint64 // token that was given out; descriptors come again, tokens do not
}

// watch has the life of d end when its client leaves, until d is forgotten. It reports false where that is not possible.
func (l *lookout) watch(d *detached) bool {
	conn := rawConn(d.conn)
	if conn == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poll == nil && !l.open() {
		return false
	}
	l.last++
	d.token = l.last
	l.watched[d.token] = d
	poll, err := l.poll.SyscallConn()
	if err == nil {
		err = control(poll, func(epoll int) error {
			return control(conn, func(fd int) error {
				// Each arrival is told once. What came before is told at once.
				return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
					Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(d.token), Pad: int32(d.token >> 32)})
			})
		})
	}
	if err != nil {
		l.remove(d)
	}
	return err == nil
}

// forget ends what watch began. The connection is about to be closed, with which it leaves the epoll.
func (l *lookout) forget(d *detached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(d)
}

// remove is forget for who holds the lock.
func (l *lookout) remove(d *detached) {
	if d.token == 0 {
		return
	}
	delete(l.watched, d.token)
	if d.token = 0; len(l.watched) == 0 {
		_ = l.poll.Close() // its goroutine ends
		l.poll, l.watched = nil, nil
	}
}

// open begins to look out. The lock is held.
func (l *lookout) open() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if unix.SetNonblock(fd, true) != nil {
		_ = unix.Close(fd)
		return false
	}
	poll := os.NewFile(uintptr(fd), "epoll")
	raw, err := poll.SyscallConn()
	if err != nil {
		_ = poll.Close()
		return false
	}
	l.poll, l.watched = poll, map[uint64]*detached{}
	go l.run(raw)
	return true
}

// run tells those whose clients have left, until the epoll is closed.
func (l *lookout) run(poll syscall.RawConn) {
	var events [64]unix.EpollEvent
	var unasked [1 << 10]byte
	for {
		n := 0
		if poll.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0) // what it fails with is not of those that can happen here
			return n > 0
		}) != nil {
			return
		}
		for _, e := range events[:n] {
			l.mu.Lock()
			d := l.watched[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			l.mu.Unlock()
			if d != nil && d.arrived(unasked[:]) {
				d.life.End(errClientLeft)
			}
		}
	}
}

// arrived passes over what has come on the connection, and reports whether the client has left, or sent too much.
func (d *detached) arrived(b []byte) (gone bool) {
	conn := rawConn(d.conn)
	err := conn.Read(func(fd uintptr) bool {
		for d.left > 0 {
			n, err := unix.Read(int(fd), b)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return true
			case err != nil, n == 0:
				d.left = 0
			default:
				d.left -= n
			}
		}
		return true
	})
	return err != nil || d.left <= 0
}

// control calls f with the descriptor of a connection.
func control(conn syscall.RawConn, f func(fd int) error) error {
	var err error
	if failed := conn.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}
