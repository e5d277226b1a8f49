// Package testdns has a DNS server whose records a test changes.
package testdns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// A Server answers for the names that it was told, over UDP and TCP. It is safe for concurrent use.
type Server struct {
	server, stream *dns.Server // over UDP and TCP

	mu    sync.Mutex
	names map[string]func() ([]netip.Addr, int)
	asked map[string]int
}

// Listen returns a server at an address, such as 127.0.0.1:0.
func Listen(address string) (*Server, error) {
	l, conn, err := listen(address)
	for range 20 { // of a free port of one the other may be in use
		if err == nil || !strings.HasSuffix(address, ":0") {
			break
		}
		l, conn, err = listen(address)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{names: map[string]func() ([]netip.Addr, int){}, asked: map[string]int{}}
	s.server, s.stream = &dns.Server{PacketConn: conn}, &dns.Server{Listener: l}
	for _, one := range []*dns.Server{s.server, s.stream} {
		started := make(chan struct{})
		one.Handler, one.NotifyStartedFunc = dns.HandlerFunc(s.answer), func() { close(started) }
		go func() { _ = one.ActivateAndServe() }() // ended by Close
		<-started
	}
	return s, nil
}

// listen listens at an address over TCP and UDP.
func listen(address string) (net.Listener, net.PacketConn, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		_ = l.Close()
		return nil, nil, err
	}
	return l, conn, nil
}

// Close ends the server.
func (s *Server) Close() {
	_ = s.server.Shutdown() // nobody asks any more
	_ = s.stream.Shutdown()
}

// Set has a name have these addresses; without any it exists, and has none.
func (s *Server) Set(name string, addresses ...string) {
	var parsed []netip.Addr
	for _, a := range addresses {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	s.SetFunc(name, func() ([]netip.Addr, int) { return parsed, dns.RcodeSuccess })
}

// Fail has the server fail for a name (SERVFAIL).
func (s *Server) Fail(name string) {
	s.SetFunc(name, func() ([]netip.Addr, int) { return nil, dns.RcodeServerFailure })
}

// Remove has a name not exist (NXDOMAIN).
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, dns.Fqdn(name))
}

// SetFunc has f say, each time that it is asked for A or AAAA records, what addresses a name has, and the
// code of the answer.
func (s *Server) SetFunc(name string, f func() ([]netip.Addr, int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[dns.Fqdn(name)] = f
}

// Asked returns how often the addresses of a name were asked for.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[dns.Fqdn(name)]
}

// Resolver returns a resolver that asks the server.
func (s *Server) Resolver() *net.Resolver {
	address := s.server.PacketConn.LocalAddr().String()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	asked := q.Question[0]
	s.mu.Lock()
	name := strings.ToLower(asked.Name)
	f := s.names[name]
	if asked.Qtype == dns.TypeA || asked.Qtype == dns.TypeAAAA {
		s.asked[name]++
	}
	s.mu.Unlock()
	if f == nil {
		m.Rcode = dns.RcodeNameError
		_ = w.WriteMsg(m) // who asked asks again
		return
	}
	addresses, code := f()
	m.Rcode = code
	for _, a := range addresses {
		typ := map[bool]string{true: "A", false: "AAAA"}[a.Is4()]
		if typ != dns.TypeToString[asked.Qtype] {
			continue
		}
		if a.Is4In6() { // as a AAAA record has it
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 1}, AAAA: a.AsSlice()})
			continue
		}
		rr, err := dns.NewRR(fmt.Sprintf("%s 1 IN %s %s", asked.Name, typ, a))
		if err != nil {
			panic(err) // the test is wrong
		}
		m.Answer = append(m.Answer, rr)
	}
	if w.LocalAddr().Network() == "udp" {
		m.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(m) // who asked asks again
}
