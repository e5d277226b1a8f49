package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A recorder is an upstream that reads requests by the letter of RFC 9112, and no other. It notes each, and what
// is no such request.
type recorder struct {
	net.Listener
	conns sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	seen   []seen
	faults []string
}

// seen is a request as it arrived.
type seen struct {
	Method, Target string
	Header         []string // lines, sorted
	Body           string
}

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Listener: l, open: map[net.Conn]struct{}{}}
	r.conns.Go(r.accept)
	t.Cleanup(func() {
		_ = l.Close()
		r.mu.Lock()
		for c := range r.open {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.conns.Wait()
	})
	return r
}

func (r *recorder) accept() {
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.open[c] = struct{}{}
		r.mu.Unlock()
		r.conns.Go(func() {
			defer func() { _ = c.Close() }()
			br := bufio.NewReader(c)
			for {
				s, err := readRequest(br)
				if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
					return
				}
				r.mu.Lock()
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // a request that was given up ends so
					r.faults = append(r.faults, fmt.Sprintf("%v, after %+v", err, s))
				} else if err == nil {
					r.seen = append(r.seen, s)
				}
				r.mu.Unlock()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
	}
}

// of returns the requests whose target has a part.
func (r *recorder) of(part string) (out []seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.seen {
		if strings.Contains(s.Target+" ", part) || strings.Contains(s.Target, part+"/") {
			out = append(out, s)
		}
	}
	return out
}

// readLine reads a line that ends in CRLF and has no other control characters than tabs.
func readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		if line != "" {
			err = errors.Join(io.EOF, fmt.Errorf("the connection ended in %q", line))
		}
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return "", fmt.Errorf("the line %q is malformed", line)
	}
	return line, nil
}

// readRequest reads one request.
func readRequest(br *bufio.Reader) (s seen, err error) {
	line, err := readLine(br)
	if err != nil {
		return s, err
	}
	words := strings.Split(line, " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" || !strings.HasPrefix(words[1], "/") && words[1] != "*" {
		return s, fmt.Errorf("the request line %q is malformed", line)
	}
	s.Method, s.Target = words[0], words[1]
	hosts, length, chunked := 0, int64(-1), false
	for {
		line, err := readLine(br)
		if err != nil {
			return s, fmt.Errorf("in the head: %w", err)
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return s, fmt.Errorf("the header %q is malformed", line)
		}
		value = strings.TrimSpace(value)
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			hosts++
		case "Content-Length":
			if length >= 0 {
				return s, errors.New("two lengths")
			}
			if length, err = strconv.ParseInt(value, 10, 63); err != nil || length < 0 {
				return s, fmt.Errorf("the length %q", value)
			}
		case "Transfer-Encoding":
			if chunked || value != "chunked" {
				return s, fmt.Errorf("the coding %q", value)
			}
			chunked = true
		}
		s.Header = append(s.Header, name+": "+value)
	}
	slices.Sort(s.Header)
	switch {
	case hosts != 1:
		return s, fmt.Errorf("%d hosts", hosts)
	case chunked && length >= 0:
		return s, errors.New("a length and a coding")
	case chunked:
		s.Body, err = readChunks(br)
	case length > 0:
		b := make([]byte, length)
		_, err = io.ReadFull(br, b)
		s.Body = string(b)
	}
	return s, err
}

func readChunks(br *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		line, err := readLine(br)
		if err != nil {
			return "", err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil {
			return "", fmt.Errorf("the size %q", line)
		}
		if n > 0 {
			if _, err := io.CopyN(&body, br, int64(n)); err != nil {
				return "", err
			}
		}
		for { // the end of the chunk, or the trailers
			line, err := readLine(br)
			if err != nil {
				return "", err
			}
			if line == "" {
				break
			}
			if n > 0 {
				return "", fmt.Errorf("%q behind a chunk", line)
			}
		}
		if n == 0 {
			return body.String(), nil
		}
	}
}
