package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/replica"
)

// peers is how other replicas reach this one. A nil peers is not reached.
type peers struct {
	ring     *replica.Ring
	addr     string // at which others reach this replica
	listener net.Listener
	server   *replica.Server // once it serves
}

// listenPeers listens at addr for the replicas that have the keys. It returns nil
// without an address, and without keys: replicas could not tell each other from
// anybody else.
func listenPeers(ctx context.Context, addr string, keys [][]byte) (*peers, error) {
	if addr == "" {
		return nil, nil
	}
	if len(keys) == 0 {
		return nil, errors.New("--peer-addr is for replicas that share session keys: give them with --session-keys-file or MCPGW_SESSION_KEYS")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return nil, fmt.Errorf("--peer-addr %q is not host:port, as in 10.0.0.7:15010", addr)
	}
	ring, err := replica.NewRing(keys...)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) { // it is not this machine's own: something in front has it
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
	}
	if err != nil {
		return nil, fmt.Errorf("listening for other replicas: %w", err)
	}
	if at, ok := l.Addr().(*net.TCPAddr); ok {
		addr = net.JoinHostPort(host, fmt.Sprint(at.Port))
	}
	return &peers{ring: ring, addr: addr, listener: l}, nil
}

// serve has the server serve the other replicas until close.
func (p *peers) serve(s *gateway.Server) { p.server = s.ServePeers(p.listener) }

func (p *peers) close() {
	switch {
	case p == nil:
	case p.server != nil:
		p.server.Close()
	default:
		_ = p.listener.Close() // it was not used
	}
}
