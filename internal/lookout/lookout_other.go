//go:build !linux

package lookout

import "syscall"

// A Lookout waits for connections until something arrives on them. Here it can't.
type Lookout struct{}

// Start reports false: there is nothing that waits.
func (*Lookout) Start(*Watch, syscall.RawConn, func()) bool { return false }

// Stop has nothing to end.
func (*Lookout) Stop(*Watch) {}
