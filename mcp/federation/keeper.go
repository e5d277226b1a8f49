package federation

import "sync"

// maxKept bounds, in bytes, the merged lists and pages that are kept beside the lists
// that they are made from. What is dropped is made anew when it is needed.
const maxKept = 128 << 20

// A keeper keeps what was made last alive, up to a size in all: those who use it refer
// to it weakly, so that it can go whoever still knows of it. It is safe for concurrent
// use.
type keeper struct {
	mu    sync.Mutex
	queue []retained
	size  int
	max   int
}

type retained struct {
	what any
	size int
}

// keep keeps a new thing. One that is larger than half of what may be kept is not.
func (k *keeper) keep(what any, size int) {
	if size > k.max/2 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = append(k.queue, retained{what, size})
	k.size += size
	n := 0
	for k.size > k.max {
		k.size -= k.queue[n].size
		k.queue[n] = retained{}
		n++
	}
	k.queue = k.queue[n:]
}
