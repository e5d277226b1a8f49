// Package gateway is the data plane: it compiles resources into a [Snapshot] and
// serves requests from it through five stations, accept, match, admit, operate,
// forward, once each and in one direction.
//
// [Compile] is the only place where resources are resolved; a request reads
// nothing but the Snapshot it was accepted with. What lives on between snapshots
// (targets, sessions, pools, compiled CEL) is in [Runtime].
package gateway

import "net/http"

// A Backend serves the requests of the rules that name it.
type Backend interface {
	// Serve answers r. An error before the first byte is returned, and rendered
	// by WriteError; after it, Serve ends the answer itself and returns nil.
	Serve(w http.ResponseWriter, r *http.Request) error
	// WriteError renders err in the backend's protocol.
	WriteError(w http.ResponseWriter, r *http.Request, err error)
}
