package upstream

import (
	"maps"
	"net/http"
	"sync"
)

// An informer gets the informational responses that come before the answer to a request, from any goroutine, which
// it does not hold up. Its error ends the request.
type informer func(code int, h http.Header) error

// An informing passes informational responses on to a client (RFC 9110 section 15.2).
type informing struct {
	w       http.ResponseWriter
	expects bool // the client waits for 100 before it sends the body, over HTTP/1.1

	mu      sync.Mutex
	idle    sync.Cond
	n       int
	queue   []informational
	running bool // a goroutine writes what is in queue
	over    bool // the answer has begun, or there is none
}

// An informational is a response before the answer.
type informational struct {
	code   int
	header http.Header
}

// inform returns what passes on to the client of r, nil where it does not know of them.
func inform(w http.ResponseWriter, r *http.Request) *informing {
	if !r.ProtoAtLeast(1, 1) {
		return nil
	}
	i := &informing{w: w, expects: r.ProtoMajor == 1 && len(r.Header["Expect"]) > 0}
	i.idle.L = &i.mu
	return i
}

// pass is an [informer]. 100 is not passed on: what the client expects is answered by whoever reads the body.
func (i *informing) pass(code int, h http.Header) error {
	if code == http.StatusContinue {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return nil
	}
	if i.n++; i.n > maxInformational {
		return errInformational
	}
	i.queue = append(i.queue, informational{code, h})
	if !i.running {
		i.running = true
		go i.run() // who calls reads for others, too, and this client may be slow
	}
	return nil
}

// run writes what there is.
func (i *informing) run() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.queue) > 0 {
		next := i.queue[0]
		i.queue = i.queue[1:]
		i.mu.Unlock()
		i.write(next)
		i.mu.Lock()
	}
	i.running = false
	i.idle.Broadcast()
}

func (i *informing) write(next informational) {
	header := i.w.Header()
	kept := maps.Clone(header) // of the answer
	clear(header)
	if i.expects {
		// net/http writes it as the body is read first, in another goroutine, and does not wait for other responses to be
		// written; but once it was written here it is not written there.
		i.expects = false
		i.w.WriteHeader(http.StatusContinue)
	}
	maps.Copy(header, next.header)
	removeHop(header)
	i.w.WriteHeader(next.code)
	clear(header)
	maps.Copy(header, kept)
}

// end waits until what was passed on is written, and has nothing be any more.
func (i *informing) end() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	for i.running {
		i.idle.Wait()
	}
}
