package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// userAgent names the gateway where the request names nobody.
const userAgent = "Go-http-client/1.1"

// appendRequest appends a request with its body, as [http.Request.Write] writes it. With replay the body
// was given away before.
func appendRequest(dst []byte, r *http.Request, replay bool) ([]byte, error) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	host, err := httpguts.PunycodeHostPort(host)
	if err != nil || !httpguts.ValidHostHeader(host) {
		return dst, fmt.Errorf("the host %q is malformed", host)
	}
	uri := r.URL.RequestURI()
	if strings.ContainsFunc(uri, func(c rune) bool { return c <= ' ' || c == 0x7f }) || !httpguts.ValidHeaderFieldName(r.Method) {
		return dst, errors.New("the request line is malformed")
	}
	dst = append(append(append(dst, r.Method...), ' '), uri...)
	dst = append(append(dst, " HTTP/1.1\r\nHost: "...), withoutZone(host)...)
	agent := userAgent
	if v, ok := r.Header["User-Agent"]; ok {
		agent = strings.Join(v[:min(len(v), 1)], "")
	}
	dst = append(dst, "\r\n"...)
	if agent != "" {
		dst = appendField(dst, "User-Agent", agent)
	}
	length := r.ContentLength
	if r.Body == nil || r.Body == http.NoBody {
		length = 0
	}
	switch {
	case length > 0, r.Method == http.MethodPost, r.Method == http.MethodPut, r.Method == http.MethodPatch:
		dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), length, 10), "\r\n"...)
	}
	for name, values := range r.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			dst = appendField(dst, name, v)
		}
	}
	dst = append(dst, "\r\n"...)
	if length == 0 {
		return dst, nil
	}
	return appendBody(dst, r, int(length), replay)
}

// appendField appends a header line. What would end it early becomes space.
func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	from := len(dst)
	dst = append(dst, strings.Trim(value, " \t\r\n")...)
	for i, c := range dst[from:] {
		if c == '\r' || c == '\n' || c == 0 {
			dst[from+i] = ' '
		}
	}
	return append(dst, "\r\n"...)
}

// withoutZone returns an IPv6 host without the zone, which means nothing to the peer.
func withoutZone(host string) string {
	if !strings.HasPrefix(host, "[") {
		return host
	}
	end := strings.LastIndexByte(host, ']')
	zone := strings.LastIndexByte(host[:max(end, 0)], '%')
	if zone < 0 {
		return host
	}
	return host[:zone] + host[end:]
}

// appendBody appends the body of r, whose length is known.
func appendBody(dst []byte, r *http.Request, length int, replay bool) ([]byte, error) {
	body := r.Body
	if replay {
		var err error
		if body, err = r.GetBody(); err != nil {
			return dst, err
		}
	}
	defer func() { _ = body.Close() }() // it is in memory
	from := len(dst)
	if cap(dst)-from < length {
		dst = append(make([]byte, 0, from+length), dst...)
	}
	dst = dst[:from+length]
	if _, err := io.ReadFull(body, dst[from:]); err != nil {
		return dst, fmt.Errorf("the body is shorter than the request says: %w", err)
	}
	var more [1]byte
	if n, _ := body.Read(more[:]); n > 0 {
		return dst, errors.New("the body is longer than the request says")
	}
	return dst, nil
}

// head reads the response to r up to its body. inform gets the informational ones before it, unless it is nil.
func (b *leanBody) head(r *http.Request, inform informer) error {
	for range maxInformational + 1 {
		text, err := b.conn.readHead()
		if err != nil {
			return err
		}
		b.resp = http.Response{Request: r}
		if err := parseHead(text, &b.resp); err != nil {
			return err
		}
		switch {
		case b.resp.StatusCode == http.StatusSwitchingProtocols:
			return errSwitch
		case b.resp.StatusCode < 200:
			if inform != nil {
				if err := inform(b.resp.StatusCode, b.resp.Header); err != nil {
					return err
				}
			}
		default:
			b.resp.Body = b
			return b.frame(r.Method == http.MethodHead)
		}
	}
	return errInformational
}

// readHead reads a status line and the header section after it, with the empty line that ends it.
func (c *leanConn) readHead() (string, error) {
	for searched := 0; ; {
		b := c.buffered()
		for i := bytes.IndexByte(b[searched:], '\n'); i >= 0; i = bytes.IndexByte(b[searched:], '\n') {
			searched += i + 1
			rest := b[searched:]
			if len(rest) > 0 && rest[0] == '\r' {
				rest = rest[1:]
			}
			if len(rest) == 0 {
				searched-- // what follows is not there yet
				break
			}
			if rest[0] == '\n' {
				end := len(b) - len(rest) + 1
				if end > maxResponseHeader {
					return "", errHeaderTooLarge
				}
				c.pos += end
				return string(b[:end]), nil
			}
		}
		if len(b) > maxResponseHeader {
			return "", errHeaderTooLarge
		}
		if err := c.fill(); err != nil {
			return "", cutOff(err)
		}
	}
}

var errHead = errors.New("the header of the response is malformed")

// parseHead reads the status line and header section in text.
func parseHead(text string, resp *http.Response) error {
	line, fields, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	proto, status, ok := strings.Cut(line, " ")
	if !ok {
		return errHead
	}
	resp.Proto, resp.Status = proto, strings.TrimLeft(status, " ")
	if resp.ProtoMajor, resp.ProtoMinor, ok = http.ParseHTTPVersion(proto); !ok || resp.ProtoMajor != 1 {
		return errHead
	}
	code, _, _ := strings.Cut(resp.Status, " ")
	n, err := strconv.ParseUint(code, 10, 16)
	if err != nil || len(code) != 3 || n < 100 {
		return errHead
	}
	resp.StatusCode = int(n)
	resp.Header = make(http.Header, 8)
	return parseFields(fields, resp.Header)
}

// parseFields adds the header lines in text, up to an empty one, to h (RFC 9112 section 5).
func parseFields(text string, h http.Header) error {
	values := make([]string, strings.Count(text, "\n"))
	var last []string // where the value of the last line is
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' { // folded: the end of the line is space
			if last == nil || !httpguts.ValidHeaderFieldValue(line) {
				return errHead
			}
			at := &last[len(last)-1]
			*at = strings.TrimLeft(*at+" "+strings.Trim(line, " \t"), " \t")
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimRight(name, " \t"), strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errHead
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if have, ok := h[name]; ok && have != nil {
			last = append(have, value)
		} else {
			last, values = values[:1:1], values[1:]
			last[0] = value
		}
		h[name] = last
	}
	return nil
}

// frame says how the body ends, and whether the connection can be used after it (RFC 9112 section
// 6.3). bodiless says that the request asked for none.
func (b *leanBody) frame(bodiless bool) error {
	resp := &b.resp
	h := resp.Header
	chunked := false
	if coding, ok := h["Transfer-Encoding"]; ok {
		delete(h, "Transfer-Encoding")
		if resp.ProtoMinor > 0 {
			if len(coding) != 1 || !strings.EqualFold(coding[0], "chunked") {
				return errors.New("the transfer coding of the response is unknown")
			}
			chunked, resp.TransferEncoding = true, []string{"chunked"}
		}
	}
	length := int64(-1)
	if lengths := h["Content-Length"]; len(lengths) > 0 {
		for _, l := range lengths[1:] {
			if l != lengths[0] {
				return errors.New("the response has several lengths")
			}
		}
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil {
			return errors.New("the length of the response is malformed")
		}
		length = int64(n)
		if h["Content-Length"] = lengths[:1]; chunked {
			delete(h, "Content-Length")
		}
	}
	connection := h["Connection"]
	resp.Close = connection != nil && httpguts.HeaderValuesContainsToken(connection, "close") ||
		resp.ProtoMinor == 0 && !httpguts.HeaderValuesContainsToken(connection, "keep-alive")
	resp.ContentLength = length
	switch {
	case bodiless:
	case resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusNotModified:
		resp.ContentLength = 0
	case chunked:
		b.framing, resp.ContentLength = framedChunked, -1
	case length > 0:
		b.framing, b.left = framedLength, uint64(length)
	case length < 0:
		b.framing, resp.Close = framedToEnd, true
	}
	b.again = !resp.Close
	if chunked {
		return b.announced()
	}
	return nil
}

// announced notes the trailers that the header announces.
func (b *leanBody) announced() error {
	lines, ok := b.resp.Header["Trailer"]
	if !ok {
		return nil
	}
	delete(b.resp.Header, "Trailer")
	b.resp.Trailer = http.Header{}
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			switch name = http.CanonicalHeaderKey(strings.Trim(name, " \t")); name {
			case "":
			case "Transfer-Encoding", "Trailer", "Content-Length":
				return errHead
			default:
				b.resp.Trailer[name] = nil
			}
		}
	}
	return nil
}
