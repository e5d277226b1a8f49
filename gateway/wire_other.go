//go:build !unix

package gateway

import (
	"net"
	"syscall"
)

type atOnce struct{}

// writeAtOnce leaves it all to a write that may have to wait.
func (w *wire) writeAtOnce([]byte) int { return 0 }

func rawConn(net.Conn) syscall.RawConn { return nil }

func (d *detached) skip() bool { return false }
