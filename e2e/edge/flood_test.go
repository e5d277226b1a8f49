package edge

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// resident returns how much memory the gateway holds, in bytes.
func resident(t testing.TB, g *testgateway.Gateway) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

func goroutines(t testing.TB, g *testgateway.Gateway) float64 {
	t.Helper()
	return g.Metric(t, "go_goroutines")
}

// A peer speaks HTTP/2 by frames.
type peer struct {
	*http2.Framer
	conn net.Conn
	head bytes.Buffer
	*hpack.Encoder
	over chan struct{} // closed when the gateway has ended the connection; nil where nothing is read
}

// dial opens a connection of HTTP/2, whose frames are read and passed over unless read is false.
func dial(t testing.TB, address string, secure, read bool) *peer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // it is the gateway of this test
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	p := &peer{Framer: http2.NewFramer(c, c), conn: c}
	p.Encoder = hpack.NewEncoder(&p.head)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if read {
		p.over = make(chan struct{})
		go func() {
			defer close(p.over)
			_, _ = io.Copy(io.Discard, c)
		}()
	}
	return p
}

// fields returns the header block of a request, with further fields.
func (p *peer) fields(more ...hpack.HeaderField) []byte {
	p.head.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.example"}, {Name: ":path", Value: "/flood"}}, more...) {
		_ = p.WriteField(f) // into a buffer
	}
	return p.head.Bytes()
}

// TestFloods has floods cost no more than a bound, while others are served; those that are no use to anybody end with their
// connection.
func TestFloods(t *testing.T) {
	hanging := newHanging(t)
	port := testgateway.FreePort(t)
	g := serve(t, hanging, direct+secure(t, port))
	secured := fmt.Sprintf("127.0.0.1:%d", port)
	g.Listens(t, secured)
	for _, f := range []struct {
		name string
		most int // how often it is sent
		ends bool
		read bool
		send func(p *peer, i int) error
	}{
		{"rapid reset", 20_000, true, true, func(p *peer, i int) error {
			id := uint32(2*i + 1)
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.fields(), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			return p.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{"CONTINUATION without an end", 20_000, true, true, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields()})
			}
			p.head.Reset()
			_ = p.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: strings.Repeat("v", 4000), Sensitive: true})
			return p.WriteContinuation(1, false, p.head.Bytes())
		}},
		{"empty CONTINUATION", 200_000, false, true, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields()})
			}
			return p.WriteContinuation(1, false, nil)
		}},
		{"PING, and nothing is read", 5_000_000, true, false, func(p *peer, _ int) error { return p.WritePing(false, [8]byte{1}) }},
		{"SETTINGS, and nothing is read", 500_000, false, false, func(p *peer, _ int) error { return p.WriteSettings() }},
		{"an HPACK bomb", 2_000, false, true, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("v", 3800)}), EndHeaders: true, EndStream: true})
			}
			block := bytes.Clone(p.fields())
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: append(block, bytes.Repeat([]byte{0xbe}, 8000)...), EndHeaders: true, EndStream: true})
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			for _, secure := range []bool{false, true} {
				before := resident(t, g)
				address := g.Address
				if secure {
					address = secured
				}
				p := dial(t, address, secure, f.read)
				sent, ended := 0, false
				for ; sent < f.most && !ended; sent++ {
					ended = f.send(p, sent) != nil
				}
				if f.ends && !ended {
					select {
					case <-p.over: // they are on their way
					case <-t.Context().Done():
						t.Fatalf("TLS %v: %d of them were taken", secure, sent)
					}
				}
				if grown := resident(t, g) - before; grown > 64<<20 {
					t.Errorf("TLS %v: the gateway has grown by %d MiB", secure, grown>>20)
				}
				resp, err := http.Get("http://" + g.Address + "/")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
	testgateway.Until(t, "what the floods began has ended", func() bool { return goroutines(t, g) < 150 && g.Metric(t, "mcpgw_http_requests_in_flight") == 0 })
}

// newHanging returns the address of an upstream that takes requests and does not answer.
func newHanging(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}
