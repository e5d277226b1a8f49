package gateway

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/policy"
)

// A router finds the rule for a request among those attached to one listener. It
// is built once and immutable; a look-up takes time in the length of the path and
// the number of distinct prefix lengths, not in the number of routes.
//
// Precedence is that of the Gateway API (HTTPRouteRule.matches): the most specific
// hostname first, then exact path, longest prefix, regular expression, method,
// number of headers, number of query parameters, age of the route, its
// namespace/name, and the order in the route.
type router struct {
	hosts hostIndex[*pathTable]
}

// A match is one entry of a rule's matches with what it leads to.
type match struct {
	hostname string // exact, *.suffix, or "" for any; lower case

	pathType pathType
	path     string         // without the trailing slash of a prefix; "" is the prefix /
	regex    *regexp.Regexp // anchored; with pathRegex only

	method  string // "" is any
	headers []valueMatch
	query   []valueMatch

	// age, owner and index order matches that are equal in all else: the position of the route
	// among all routes by creation time, its namespace/name, and the position in the
	// route.
	age   int
	owner string
	index int

	endpoint policy.Endpoint // what a request is matched to by it
	rule     *rule
}

// written returns what the match says of the path.
func (m *match) written() string {
	switch {
	case m.regex != nil:
		return m.regex.String()
	case m.path == "":
		return "/"
	default:
		return m.path
	}
}

type pathType uint8

const (
	pathPrefix pathType = iota
	pathExact
	pathRegex
)

// A valueMatch is a condition on one header or query parameter.
type valueMatch struct {
	name  string // headers: canonical
	value string
	regex *regexp.Regexp // anchored; nil for an exact value
}

func (v *valueMatch) matches(s string) bool {
	if v.regex != nil {
		return v.regex.MatchString(s)
	}
	return s == v.value
}

// compareMatches orders matches of equal hostname by precedence, the first to be
// tried first.
func compareMatches(a, b *match) int {
	return cmp.Or(
		cmp.Compare(pathRank(a), pathRank(b)),
		-cmp.Compare(len(a.path), len(b.path)),
		-cmp.Compare(min(len(a.method), 1), min(len(b.method), 1)),
		-cmp.Compare(len(a.headers), len(b.headers)),
		-cmp.Compare(len(a.query), len(b.query)),
		cmp.Compare(a.age, b.age),
		cmp.Compare(a.owner, b.owner),
		cmp.Compare(a.index, b.index),
	)
}

func pathRank(m *match) int {
	switch m.pathType {
	case pathExact:
		return 0
	case pathPrefix:
		return 1
	default:
		return 2
	}
}

// A pathTable holds the matches of one hostname.
type pathTable struct {
	exact    map[string][]*match
	prefixes map[string][]*match
	lengths  []int // of the keys of prefixes, longest first
	regexes  []*match
}

// newRouter returns the router of the matches, which it sorts.
func newRouter(matches []*match) *router {
	slices.SortStableFunc(matches, compareMatches)
	r := new(router)
	for _, m := range matches {
		t := r.hosts.at(m.hostname, func() *pathTable {
			return &pathTable{exact: map[string][]*match{}, prefixes: map[string][]*match{}}
		})
		switch m.pathType {
		case pathExact:
			t.exact[m.path] = append(t.exact[m.path], m)
		case pathPrefix:
			if len(t.prefixes[m.path]) == 0 && !slices.Contains(t.lengths, len(m.path)) {
				t.lengths = append(t.lengths, len(m.path)) // the matches come sorted
			}
			t.prefixes[m.path] = append(t.prefixes[m.path], m)
		case pathRegex:
			t.regexes = append(t.regexes, m)
		}
	}
	return r
}

// find returns the match for a request to host, or nil.
func (r *router) find(host string, req *http.Request) *match {
	q := &query{url: req.URL}
	var found *match
	r.hosts.each(host, func(t *pathTable) bool {
		found = t.find(req, q)
		return found != nil
	})
	return found
}

func (t *pathTable) find(req *http.Request, q *query) *match {
	path := req.URL.Path
	if m := firstOf(t.exact[path], req, q); m != nil {
		return m
	}
	for _, n := range t.lengths {
		if n > len(path) || n < len(path) && path[n] != '/' {
			continue
		}
		if m := firstOf(t.prefixes[path[:n]], req, q); m != nil {
			return m
		}
	}
	for _, m := range t.regexes {
		if m.regex.MatchString(path) && m.conditions(req, q) {
			return m
		}
	}
	return nil
}

func firstOf(from []*match, req *http.Request, q *query) *match {
	for _, m := range from {
		if m.conditions(req, q) {
			return m
		}
	}
	return nil
}

// conditions reports whether all but host and path match.
func (m *match) conditions(req *http.Request, q *query) bool {
	if m.method != "" && m.method != req.Method {
		return false
	}
	for i := range m.headers {
		h := &m.headers[i]
		v, ok := headerValue(req, h.name)
		if !ok || !h.matches(v) {
			return false
		}
	}
	for i := range m.query {
		v, ok := q.first(m.query[i].name)
		if !ok || !m.query[i].matches(v) {
			return false
		}
	}
	return true
}

// headerValue returns the value of a header by its canonical name; several lines
// are one value (RFC 9110 section 5.3).
func headerValue(req *http.Request, name string) (string, bool) {
	if name == "Host" {
		return req.Host, true
	}
	switch v := req.Header[name]; len(v) {
	case 0:
		return "", false
	case 1:
		return v[0], true
	default:
		return strings.Join(v, ", "), true
	}
}

// A query is the query of a request, parsed when it is first looked at.
type query struct {
	url    *url.URL
	values url.Values
}

func (q *query) first(name string) (string, bool) {
	if q.values == nil {
		q.values, _ = url.ParseQuery(q.url.RawQuery) // what can't be read is not there
	}
	v, ok := q.values[name]
	if !ok {
		return "", false
	}
	return v[0], true
}

// A hostIndex finds values by hostname: exact, by the longest wildcard, or for
// any. The zero hostIndex is empty.
type hostIndex[T any] struct {
	exact    map[string]T
	wildcard map[string]T // by the suffix that begins with a dot
	any      *T
}

// at returns the value of a hostname pattern, made by create when there is none.
func (x *hostIndex[T]) at(hostname string, create func() T) T {
	if hostname == "" {
		if x.any == nil {
			x.any = new(T)
			*x.any = create()
		}
		return *x.any
	}
	in, key := &x.exact, hostname
	if suffix, ok := strings.CutPrefix(hostname, "*"); ok {
		in, key = &x.wildcard, suffix
	}
	v, ok := (*in)[key]
	if !ok {
		if *in == nil {
			*in = map[string]T{}
		}
		v = create()
		(*in)[key] = v
	}
	return v
}

// each calls f with the values whose pattern matches host, the most specific first,
// until f returns true.
func (x *hostIndex[T]) each(host string, f func(T) bool) {
	if v, ok := x.exact[host]; ok && f(v) {
		return
	}
	if len(x.wildcard) > 0 {
		for rest := host; ; {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				break
			}
			if v, ok := x.wildcard[rest[i:]]; ok && (i > 0 || len(rest) < len(host)) && f(v) {
				return
			}
			rest = rest[i+1:]
		}
	}
	if x.any != nil {
		f(*x.any)
	}
}

// all calls f with every value.
func (x *hostIndex[T]) all(f func(T)) {
	for _, v := range x.exact {
		f(v)
	}
	for _, v := range x.wildcard {
		f(v)
	}
	if x.any != nil {
		f(*x.any)
	}
}

// intersect returns the hostname that a listener and a route have in common, each
// exact, *.suffix or "" for any; ok is false when there is none.
func intersect(listener, route string) (hostname string, ok bool) {
	switch {
	case listener == "" || listener == route:
		return route, true
	case route == "":
		return listener, true
	case covers(listener, route):
		return route, true
	case covers(route, listener):
		return listener, true
	default:
		return "", false
	}
}

// covers reports whether a wildcard covers a hostname or a longer wildcard.
func covers(wildcard, hostname string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	if !ok {
		return false
	}
	rest, ok := strings.CutSuffix(hostname, suffix)
	return ok && rest != ""
}
