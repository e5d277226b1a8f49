package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slowHost and slowMatch say what a match means, one request and match at a time,
// as the Gateway API words it.
func slowHost(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		label, ok := strings.CutSuffix(host, "."+rest)
		return ok && label != ""
	}
	return pattern == "" || pattern == host
}

func slowMatch(m *match, host string, r *http.Request) bool {
	if !slowHost(m.hostname, host) || m.method != "" && m.method != r.Method {
		return false
	}
	switch m.pathType {
	case pathExact:
		if r.URL.Path != m.path {
			return false
		}
	case pathPrefix:
		want, got := strings.Split(m.path, "/"), strings.Split(r.URL.Path, "/")
		if len(got) < len(want) {
			return false
		}
		for i := range want {
			if want[i] != got[i] {
				return false
			}
		}
	case pathRegex:
		if m.regex.FindString(r.URL.Path) != r.URL.Path {
			return false
		}
	}
	for _, h := range m.headers {
		if len(r.Header.Values(h.name)) == 0 || strings.Join(r.Header.Values(h.name), ", ") != h.value {
			return false
		}
	}
	for _, q := range m.query {
		if !r.URL.Query().Has(q.name) || r.URL.Query().Get(q.name) != q.value {
			return false
		}
	}
	return true
}

// slowBefore reports whether a goes before b, criterion by criterion.
func slowBefore(a, b *match) bool {
	host := func(m *match) (int, int) {
		if strings.HasPrefix(m.hostname, "*") || m.hostname == "" {
			return 0, len(m.hostname)
		}
		return len(m.hostname), len(m.hostname)
	}
	kind := map[pathType]int{pathExact: 2, pathPrefix: 1, pathRegex: 0}
	has := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	ah1, ah2 := host(a)
	bh1, bh2 := host(b)
	for _, c := range [][2]int{
		{ah1, bh1}, {ah2, bh2},
		{kind[a.pathType], kind[b.pathType]}, {len(a.path), len(b.path)},
		{has(a.method != ""), has(b.method != "")},
		{len(a.headers), len(b.headers)}, {len(a.query), len(b.query)},
		{-a.age, -b.age},
	} {
		if c[0] != c[1] {
			return c[0] > c[1]
		}
	}
	if a.owner != b.owner {
		return a.owner < b.owner
	}
	return a.index < b.index
}

func slowFind(ms []*match, host string, r *http.Request) *match {
	var best *match
	for _, m := range ms {
		if slowMatch(m, host, r) && (best == nil || slowBefore(m, best)) {
			best = m
		}
	}
	return best
}

// The router finds what a look at every match would find.
func TestRouterAgainstReference(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "", "a.b"})
	path := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(segment, 0, 3).Draw(t, "segments"), "/")
	})
	host := rapid.SampledFrom([]string{"", "a.test", "b.a.test", "c.b.a.test", "test", ".a.test"})
	pattern := rapid.SampledFrom([]string{"", "a.test", "b.a.test", "*.a.test", "*.b.a.test", "*.test"})
	values := func(names ...string) *rapid.Generator[[]valueMatch] {
		return rapid.Custom(func(t *rapid.T) []valueMatch {
			var out []valueMatch
			for _, n := range names {
				if rapid.IntRange(0, 3).Draw(t, "use "+n) == 0 {
					out = append(out, valueMatch{name: n, value: rapid.SampledFrom([]string{"1", "2"}).Draw(t, n)})
				}
			}
			return out
		})
	}
	method := rapid.SampledFrom([]string{"GET", "POST"})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "n")
		var ms []*match
		for i := range n {
			m := &match{
				hostname: pattern.Draw(t, "hostname"),
				pathType: rapid.SampledFrom([]pathType{pathPrefix, pathExact, pathRegex}).Draw(t, "type"),
				path:     path.Draw(t, "path"),
				headers:  values("X-A", "X-B").Draw(t, "headers"),
				query:    values("q", "p").Draw(t, "query"),
				age:      rapid.IntRange(0, 2).Draw(t, "age"),
				owner:    rapid.SampledFrom([]string{"ns/a", "ns/b"}).Draw(t, "owner"),
				index:    i,
			}
			if rapid.Bool().Draw(t, "with method") {
				m.method = method.Draw(t, "method")
			}
			switch m.pathType {
			case pathPrefix:
				m.path = strings.TrimSuffix(m.path, "/")
			case pathRegex:
				m.path += ".*"
				m.regex = regexp.MustCompile("^(?:" + m.path + ")$")
			case pathExact:
			}
			ms = append(ms, m)
		}
		router := newRouter(append([]*match(nil), ms...))
		for range 10 {
			h := host.Draw(t, "host")
			r := httptest.NewRequest(method.Draw(t, "method"), "http://x"+path.Draw(t, "request path"), nil)
			for _, v := range values("X-A", "X-B").Draw(t, "request headers") {
				r.Header.Add(v.name, v.value)
			}
			q := r.URL.Query()
			for _, v := range values("q", "p").Draw(t, "request query") {
				q.Add(v.name, v.value)
			}
			r.URL.RawQuery = q.Encode()
			if got, want := router.find(h, r), slowFind(ms, h, r); got != want {
				t.Fatalf("%s %s%s %v: found %+v, want %+v", r.Method, h, r.URL, r.Header, got, want)
			}
		}
	})
}

func TestIntersect(t *testing.T) {
	for _, tc := range []struct {
		listener, route, want string
		ok                    bool
	}{
		{"", "", "", true},
		{"", "a.test", "a.test", true},
		{"*.test", "", "*.test", true},
		{"*.test", "a.test", "a.test", true},
		{"*.test", "*.a.test", "*.a.test", true},
		{"*.a.test", "*.test", "*.a.test", true},
		{"a.test", "*.test", "a.test", true},
		{"a.test", "a.test", "a.test", true},
		{"a.test", "b.test", "", false},
		{"*.test", "test", "", false},
		{"*.b.test", "a.test", "", false},
	} {
		got, ok := intersect(tc.listener, tc.route)
		if got != tc.want || ok != tc.ok {
			t.Errorf("intersect(%q, %q) = %q, %v; want %q, %v", tc.listener, tc.route, got, ok, tc.want, tc.ok)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for target, good := range map[string]bool{
		"/":              true,
		"/a/.b/..c/d...": true,
		"/a%20b":         true,
		"/a;x=1":         true,
		"/a/../b":        false,
		"/a/%2e%2e/b":    false,
		"/a/.%2E":        false,
		"/a/..;x/b":      false,
		"/.":             false,
		"/a%2fb":         false,
		"/a%2Fb":         false,
		"/a%5cb":         false,
		`/a\b`:           false,
		"/a%00b":         false,
		"/a%7f":          false,
		"*":              false,
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkPath(u); (err == nil) != good {
			t.Errorf("checkPath(%q) = %v, want good %v", target, err, good)
		}
	}
}

func TestHostOf(t *testing.T) {
	for header, want := range map[string]string{
		"Example.COM":      "example.com",
		"example.com:8080": "example.com",
		"example.com.":     "example.com",
		"[::1]:80":         "::1",
		"[::1]":            "::1",
		"127.0.0.1:1":      "127.0.0.1",
		"":                 "",
	} {
		if got, ok := hostOf(header); got != want || !ok {
			t.Errorf("hostOf(%q) = %q, %v; want %q", header, got, ok, want)
		}
	}
	for _, header := range []string{"a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "[a]", "[1.2.3.4]", "[::1]x", "a\x00", strings.Repeat("a", 254), "é.test"} {
		if got, ok := hostOf(header); ok {
			t.Errorf("hostOf(%q) = %q, want none", header, got)
		}
	}
}

// A path or host that is let through reads the same however often it is read.
func FuzzPathAndHost(f *testing.F) {
	for _, s := range []string{"/a/b", "/a/%2e%2e/b", "/%252e", "/a;b/..;/c", "//a", "/a%2fb"} {
		f.Add(s, "Example.com:80")
	}
	f.Fuzz(func(t *testing.T, target, hostHeader string) {
		if h, ok := hostOf(hostHeader); ok {
			if again, ok := hostOf(h); !strings.Contains(h, ":") && (!ok || again != strings.TrimSuffix(h, ".")) {
				t.Errorf("host %q reads %q and then %q, %v", hostHeader, h, again, ok)
			}
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || checkPath(u) != nil {
			return
		}
		for seg := range strings.SplitSeq(u.Path, "/") {
			if seg == "." || seg == ".." {
				t.Errorf("%q was let through with the segment %q", target, seg)
			}
		}
		if strings.Count(u.EscapedPath(), "/") != strings.Count(u.Path, "/") {
			t.Errorf("%q has other segments decoded than encoded", target)
		}
	})
}

func BenchmarkRouter(b *testing.B) {
	for _, n := range []int{1, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var ms []*match
			for i := range n {
				ms = append(ms, &match{path: fmt.Sprintf("/team%d/mcp", i), index: i})
			}
			r := newRouter(ms)
			req := httptest.NewRequest("POST", "/team0/mcp/x", nil)
			b.ReportAllocs()
			for b.Loop() {
				if r.find("example.com", req) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
