package lookout

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Lookout waits for connections until something arrives on them. It has one goroutine with one epoll, while
// there is something to wait for. The epoll waits in that of the runtime, so that no thread is held. The zero Lookout
// is ready for use. It is safe for concurrent use.
type Lookout struct {
	mu      sync.Mutex
	poll    *os.File // nil while nothing is watched
	raw     syscall.RawConn
	watched map[uint64]*Watch
	last    uint64 // token that was given out
}

// Start has arrived called, once, as soon as there is something to read on conn, or its end, which may be now. arrived must not
// block. A watch that was started before on that connection is started again. Start reports false where that is not possible.
func (l *Lookout) Start(w *Watch, conn syscall.RawConn, arrived func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poll == nil && !l.open() {
		return false
	}
	if w.token == 0 {
		l.last++
		w.token = l.last
		l.watched[w.token] = w
	}
	w.arrived = arrived
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(w.token), Pad: int32(w.token >> 32)}
	err := control(l.raw, func(epoll int) error {
		return control(conn, func(fd int) error {
			err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event)
			if err == unix.EEXIST {
				err = unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, fd, &event)
			}
			return err
		})
	})
	if err != nil {
		l.remove(w)
	}
	return err == nil
}

// Stop ends what Start began: arrived is called at most once more. Where it may be started again meanwhile the
// connection is closed before.
func (l *Lookout) Stop(w *Watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(w)
}

// remove takes w out. The lock is held.
func (l *Lookout) remove(w *Watch) {
	if w.token == 0 {
		return
	}
	delete(l.watched, w.token)
	if w.token = 0; len(l.watched) == 0 {
		_ = l.poll.Close() // its goroutine ends
		l.poll, l.raw, l.watched = nil, nil, nil
	}
}

// open begins to look out. The lock is held.
func (l *Lookout) open() bool {
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
	l.poll, l.raw, l.watched = poll, raw, map[uint64]*Watch{}
	go l.run(raw)
	return true
}

// run tells of what arrives, until the epoll is closed.
func (l *Lookout) run(poll syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		if poll.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0) // what it can fail with here passes
			return n > 0
		}) != nil {
			return
		}
		for _, e := range events[:n] {
			var arrived func()
			l.mu.Lock()
			if w := l.watched[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]; w != nil {
				arrived = w.arrived
			}
			l.mu.Unlock()
			if arrived != nil {
				arrived()
			}
		}
	}
}
