package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Off is the address that switches one of our own listeners off.
const Off = "off"

// listenOwn opens one of the gateway's own listeners. It returns nil for the
// address Off. Where addr is the default, which nobody asked for, and its port is
// busy, a free port is taken instead and fellBack is true.
func listenOwn(addr, byDefault string) (l net.Listener, fellBack bool, err error) {
	if addr == Off {
		return nil, false, nil
	}
	l, err = net.Listen("tcp", addr)
	if err == nil {
		return l, false, nil
	}
	if addr != byDefault || !errors.Is(err, syscall.EADDRINUSE) {
		return nil, false, fmt.Errorf("%w: choose another address, or %s", err, Off)
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return nil, false, splitErr
	}
	l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	return l, true, err
}
