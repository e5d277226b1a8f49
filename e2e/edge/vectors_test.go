package edge

import (
	"fmt"
	"strings"
)

// A vector is what one client sends on a connection of its own.
type vector struct {
	group, name string
	// text is sent as it is, but for {p}, which becomes a path that only this vector has.
	text string
	// why says why the gateway takes what nginx refuses, or whatever else is worth saying.
	why string
}

// smuggled is the request that must never reach an upstream: it stands where one reader sees a body and another a request.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"

// vectors returns all of them, in the order of the table.
func vectors() []vector {
	var out []vector
	in := func(group string, list ...vector) {
		for _, v := range list {
			v.group = group
			out = append(out, v)
		}
	}
	post := func(headers, body string) string {
		return "POST {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n" + headers + "\r\n" + body
	}
	get := func(headers string) string {
		return "GET {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n" + headers + "\r\n"
	}
	path := func(target string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
	}
	const chunked = "Transfer-Encoding: chunked\r\n"
	lines := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-%d: y\r\n", i)
		}
		return b.String()
	}
	in("Framing",
		vector{name: "a body with Content-Length", text: post("Content-Length: 2\r\n", "ok")},
		vector{name: "a chunked body", text: post(chunked, "2\r\nok\r\n0\r\n\r\n")},
		vector{name: "CL.TE", text: post("Content-Length: 6\r\n"+chunked, "0\r\n\r\n"+smuggled)},
		vector{name: "TE.CL", text: post(chunked+"Content-Length: 4\r\n", "5c\r\n"+smuggled+"\r\n0\r\n\r\n")},
		vector{name: "TE.TE, one of them not known", text: post(chunked+"Transfer-Encoding: x\r\n", "0\r\n\r\n"+smuggled)},
		vector{name: "chunked twice", text: post(chunked+chunked, "0\r\n\r\n"+smuggled)},
		vector{name: "a list of codings", text: post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"+smuggled)},
		vector{name: "an unknown coding", text: post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+smuggled)},
		vector{name: "a coding behind a tab", text: post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), why: "a tab is white space (RFC 9110 section 5.6.3), and what goes on is written anew"},
		vector{name: "a coding with a vertical tab", text: post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"+smuggled)},
		vector{name: "a coding in upper case", text: post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n")},
		vector{name: "chunked in HTTP/1.0", text: "POST {p} HTTP/1.0\r\nHost: a.example\r\n" + chunked + "\r\n0\r\n\r\n" + smuggled},
		vector{name: "two lengths that differ", text: post("Content-Length: 2\r\nContent-Length: 4\r\n", "okok")},
		vector{name: "two lengths that agree", text: post("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"), why: "RFC 9112 section 6.3 has them be one; one goes on"},
		vector{name: "a list of lengths", text: post("Content-Length: 2, 2\r\n", "ok")},
		vector{name: "a length with a sign", text: post("Content-Length: +2\r\n", "ok")},
		vector{name: "a negative length", text: post("Content-Length: -2\r\n", "ok")},
		vector{name: "a length in hexadecimal", text: post("Content-Length: 0x2\r\n", "ok")},
		vector{name: "a length with a space in it", text: post("Content-Length: 2 2\r\n", "ok")},
		vector{name: "an empty length", text: post("Content-Length: \r\n", smuggled)},
		vector{name: "a length over 63 bits", text: post("Content-Length: 18446744073709551618\r\n", "ok")},
		vector{name: "a length that is padded with zeros", text: post("Content-Length: 0000002\r\n", "ok")},
		vector{name: "a GET with a body", text: "GET {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 49\r\n\r\n" + smuggled + "      "},
		vector{name: "no length and no coding", text: post("", smuggled), why: "it has no body; what follows is not read, since it says close"},
	)
	in("Chunks",
		vector{name: "an extension", text: post(chunked, "2;a=b\r\nok\r\n0\r\n\r\n")},
		vector{name: "an extension with a bare LF in it", text: post(chunked, "2;\nxx\r\nok\r\n0\r\n\r\n")},
		vector{name: "an extension of 16 KiB", text: post(chunked, "2;"+strings.Repeat("a", 16<<10)+"\r\nok\r\n0\r\n\r\n")},
		vector{name: "a size with 0x", text: post(chunked, "0x2\r\nok\r\n0\r\n\r\n")},
		vector{name: "a size with a sign", text: post(chunked, "+2\r\nok\r\n0\r\n\r\n")},
		vector{name: "a negative size", text: post(chunked, "-2\r\nok\r\n0\r\n\r\n")},
		vector{name: "no size", text: post(chunked, "\r\nok\r\n0\r\n\r\n")},
		vector{name: "a size over 64 bits", text: post(chunked, "10000000000000002\r\nok\r\n0\r\n\r\n")},
		vector{name: "a size with a space before it", text: post(chunked, " 2\r\nok\r\n0\r\n\r\n")},
		vector{name: "a size with a space after it", text: post(chunked, "2 \r\nok\r\n0\r\n\r\n"), why: "RFC 9112 section 7.1.1 permits it before extensions"},
		vector{name: "data longer than its size", text: post(chunked, "2\r\nokok\r\n0\r\n\r\n")},
		vector{name: "data without CRLF behind it", text: post(chunked, "2\r\nok0\r\n\r\n"+smuggled)},
		vector{name: "sizes that end in a bare LF", text: post(chunked, "2\nok\n0\n\n"+smuggled)},
		vector{name: "a trailer", text: post(chunked+"Trailer: X-Last\r\n", "2\r\nok\r\n0\r\nX-Last: word\r\n\r\n")},
		vector{name: "a trailer with a forbidden name", text: post(chunked+"Trailer: Content-Length\r\n", "2\r\nok\r\n0\r\nContent-Length: 99\r\n\r\n")},
		vector{name: "a trailer that nobody announced", text: post(chunked, "2\r\nok\r\n0\r\nHost: evil\r\nTransfer-Encoding: x\r\n\r\n"), why: "it is dropped"},
		vector{name: "a folded trailer", text: post(chunked, "2\r\nok\r\n0\r\nX-Last: a\r\n b\r\n\r\n")},
		vector{name: "no end", text: post(chunked, "2\r\nok\r\n")},
	)
	in("Lines",
		vector{name: "bare LF everywhere", text: "GET {p} HTTP/1.1\nHost: a.example\nConnection: close\n\n"},
		vector{name: "bare LF in a header", text: get("X-A: b\nX-C: d\r\n")},
		vector{name: "bare CR in a header", text: get("X-A: b\rX-C: d\r\n")},
		vector{name: "bare CR behind the request line", text: "GET {p} HTTP/1.1\rHost: a.example\r\n\r\n"},
		vector{name: "NUL in a header", text: get("X-A: b\x00c\r\n")},
		vector{name: "obs-fold", text: get("X-A: b\r\n c\r\n")},
		vector{name: "a fold before the first header", text: "GET {p} HTTP/1.1\r\n Host: a.example\r\n\r\n"},
		vector{name: "a space before the colon", text: get("X-A : b\r\n")},
		vector{name: "Transfer-Encoding with a space before the colon", text: post("Transfer-Encoding : chunked\r\nContent-Length: 2\r\n", "ok")},
		vector{name: "a header without a colon", text: get("X-A\r\n")},
		vector{name: "a header without a name", text: get(": b\r\n")},
		vector{name: "a name with a control character", text: get("X-\x01A: b\r\n")},
		vector{name: "a name that is no ASCII", text: get("X-Ä: b\r\n")},
		vector{name: "a value that is no ASCII", text: get("X-A: ä\r\n")},
		vector{name: "X-A and X_A", text: get("X-A: b\r\nX_A: c\r\n")},
		vector{name: "an empty line before the request", text: "\r\n" + get("")},
	)
	in("Request line",
		vector{name: "an unknown method", text: "BREW {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a method in lower case", text: "get {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", why: "methods are case-sensitive tokens: it goes on as it is, and a route that matches GET does not match it"},
		vector{name: "a method that is no token", text: "G@T {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "CONNECT", text: "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\n\r\n"},
		vector{name: "TRACE", text: "TRACE {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "OPTIONS *", text: "OPTIONS * HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "two spaces", text: "GET  {p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a tab in place of a space", text: "GET\t{p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a space in the path", text: "GET {p}/a b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "HTTP/0.9", text: "GET {p}\r\n"},
		vector{name: "HTTP/1.0", text: "GET {p} HTTP/1.0\r\n\r\n"},
		vector{name: "HTTP/1.2", text: "GET {p} HTTP/1.2\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "HTTP/2.0", text: "GET {p} HTTP/2.0\r\nHost: a.example\r\n\r\n"},
		vector{name: "http/1.1", text: "GET {p} http/1.1\r\nHost: a.example\r\n\r\n"},
		vector{name: "the preface of HTTP/2", text: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00", 9) + "\x07", why: "HTTP/2 without TLS is served, and its first frame here is malformed"},
		vector{name: "a request target of 8 KiB", text: path("{p}/" + strings.Repeat("a", 8000))},
		vector{name: "a request target of 9 KiB", text: path("{p}/" + strings.Repeat("a", 9<<10))},
	)
	in("Host and target",
		vector{name: "no Host", text: "GET {p} HTTP/1.1\r\nConnection: close\r\n\r\n"},
		vector{name: "an empty Host", text: "GET {p} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"},
		vector{name: "two Hosts", text: get("Host: b.example\r\n")},
		vector{name: "two Hosts that agree", text: get("Host: a.example\r\n")},
		vector{name: "a Host with a path", text: "GET {p} HTTP/1.1\r\nHost: a.example/x\r\nConnection: close\r\n\r\n"},
		vector{name: "a Host with userinfo", text: "GET {p} HTTP/1.1\r\nHost: u@a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a Host with a malformed port", text: "GET {p} HTTP/1.1\r\nHost: a.example:8o\r\nConnection: close\r\n\r\n"},
		vector{name: "an absolute target, another Host", text: "GET http://b.example{p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", why: "the target counts (RFC 9112 section 3.2.2): routes and upstream see b.example"},
		vector{name: "an absolute target with userinfo", text: "GET http://u:p@a.example{p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "an absolute target of another scheme", text: "GET ftp://a.example{p} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a target without a slash", text: path("x")},
		vector{name: "a fragment", text: path("{p}#f")},
	)
	in("Paths",
		vector{name: "dot segments", text: path("{p}/a/../b")},
		vector{name: "encoded dot segments", text: path("{p}/a/%2e%2e/b")},
		vector{name: "dot segments with a parameter", text: path("{p}/a/..;/b")},
		vector{name: "above the root", text: path("/../{p}")},
		vector{name: "an encoded slash", text: path("{p}/a%2fb")},
		vector{name: "an encoded backslash", text: path("{p}/a%5cb")},
		vector{name: "a backslash", text: path(`{p}/a\b`)},
		vector{name: "an encoded NUL", text: path("{p}/a%00b")},
		vector{name: "an encoded line end", text: path("{p}/a%0d%0ab")},
		vector{name: "double encoding", text: path("{p}/a%252e%252e%252fb"), why: "it is decoded once, by nobody here: what goes on is as it came"},
		vector{name: "a malformed escape", text: path("{p}/a%zz")},
		vector{name: "overlong UTF-8", text: path("{p}/a%c0%af")},
		vector{name: "two slashes", text: path("{p}//a")},
	)
	in("Connections",
		vector{name: "two requests at once", text: "GET {p}/1 HTTP/1.1\r\nHost: a.example\r\n\r\nGET {p}/2 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		vector{name: "a request behind a refused one", text: "GET {p}/a/../b HTTP/1.1\r\nHost: a.example\r\nX-A : b\r\n\r\n" + smuggled},
		vector{name: "headers that Connection names", text: get("Connection: X-Secret, Host\r\nX-Secret: s\r\n")},
		vector{name: "hop-by-hop headers", text: get("Keep-Alive: timeout=9\r\nProxy-Connection: x\r\nProxy-Authorization: Basic eDp5\r\nTE: gzip\r\n")},
		vector{name: "Expect", text: post("Expect: 100-continue\r\nContent-Length: 2\r\n", "ok")},
		vector{name: "another expectation", text: post("Expect: 200-ok\r\nContent-Length: 2\r\n", "ok")},
		vector{name: "an upgrade to h2c", text: get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")},
		vector{name: "an upgrade to h2c with a body", text: post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 43\r\n", smuggled)},
		vector{name: "an upgrade to something else", text: get("Connection: Upgrade\r\nUpgrade: smtp\r\n")},
		vector{name: "a WebSocket with a body", text: post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 43\r\n", smuggled)},
		vector{name: "X-Mcpgw- headers", text: get("X-Mcpgw-Peer: request\r\n")},
	)
	in("Floods",
		vector{name: "100 headers", text: get(lines(98))},
		vector{name: "101 headers and more", text: get(lines(200))},
		vector{name: "a header of 7 KiB", text: get("X-A: " + strings.Repeat("b", 7<<10) + "\r\n")},
		vector{name: "a header of 40 KiB", text: get("X-A: " + strings.Repeat("b", 40<<10) + "\r\n"), why: "heads may have 64 KiB: tokens of identity providers are large"},
		vector{name: "headers of 70 KiB", text: get("X-A: " + strings.Repeat("b", 70<<10) + "\r\n")},
		vector{name: "headers of 2 MiB", text: get("X-A: " + strings.Repeat("b", 2<<20) + "\r\n")},
		vector{name: "half a head, and silence", text: "GET {p} HTTP/1.1\r\nHost: a.exa"},
		vector{name: "half a body, and silence", text: post("Content-Length: 9\r\n", "half")},
		vector{name: "nothing", text: ""},
	)
	return out
}
