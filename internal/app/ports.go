package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// assumedPort is the port of the Gateway that is assumed where none is written.
const assumedPort = 8080

// ports opens the listening sockets of the data plane, and knows where they came
// to be. The zero value opens what it is asked for. It is safe for concurrent use.
type ports struct {
	// loopback binds 127.0.0.1 where all addresses were meant.
	loopback bool
	// port, when not 0, takes the place of assumedPort.
	port int
	// free takes any free port of loopback in place of every port.
	free bool
	// fallBack takes a free port when assumedPort is busy.
	fallBack bool

	mu     sync.Mutex
	actual map[int]*net.TCPAddr
}

// listen implements the Listen of gateway.Options.
func (p *ports) listen(ctx context.Context, network, address string) (net.Listener, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	asked, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", text, err)
	}
	if host == "" && (p.loopback || p.free) {
		host = "127.0.0.1"
	}
	port := asked
	if asked == assumedPort && p.port != 0 {
		port = p.port
	}
	if at := p.at(asked); at != nil && (p.free || p.fallBack) {
		port = at.Port // the other address family of a port that was opened before
	} else if p.free {
		port = 0
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) && p.fallBack && asked == assumedPort && p.port == 0 && port == assumedPort {
		l, err = config.Listen(ctx, network, net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.actual == nil {
		p.actual = map[int]*net.TCPAddr{}
	}
	if at, ok := l.Addr().(*net.TCPAddr); ok && p.actual[asked] == nil {
		p.actual[asked] = at
	}
	return l, nil
}

// at returns where a port of the configuration came to be, nil when it is not
// open.
func (p *ports) at(port int) *net.TCPAddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.actual[port]
}

// hostPort returns the address of a port for a URL of this machine.
func (p *ports) hostPort(port int) string {
	at := p.at(port)
	if at == nil {
		if port == assumedPort && p.port != 0 {
			port = p.port
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	host := at.IP.String()
	if at.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(at.Port))
}
