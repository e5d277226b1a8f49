package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A cors says which pages may read answers (Fetch, HTTP-CORS protocol). It answers the
// preflight requests of browsers, which carry no credentials, before anything is admitted.
type cors struct {
	origins     []corsOrigin
	any         bool // pages of all origins may, and nobody is told apart
	credentials bool
	methods     []string // "*" is all
	headers     []string // "*" is all
	expose      string
	maxAge      int // seconds
}

// A corsOrigin is an origin in lower case, of which a part may be anything.
type corsOrigin struct {
	before, after string // of the * in it
	star          bool
}

func newCORSOrigin(text string) corsOrigin {
	before, after, star := strings.Cut(strings.ToLower(text), "*")
	return corsOrigin{before, after, star}
}

func (o *corsOrigin) is(origin string) bool {
	if !o.star {
		return origin == o.before
	}
	return len(origin) > len(o.before)+len(o.after) && strings.HasPrefix(origin, o.before) && strings.HasSuffix(origin, o.after)
}

// allows reports whether pages of an origin may read answers.
func (c *cors) allows(origin string) bool {
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(c.origins, func(o corsOrigin) bool { return o.is(origin) })
}

// origin returns what lets pages of an origin read an answer, and nothing for others. It takes the
// place of what the upstream says.
func (c *cors) origin(origin string) headerModifier {
	m := headerModifier{remove: []string{
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
		"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age",
	}}
	if c.any {
		m.allow("Access-Control-Allow-Origin", "*")
	} else {
		m.add = append(m.add, header{"Vary", "Origin"})
		if !c.allows(origin) {
			return m
		}
		m.allow("Access-Control-Allow-Origin", origin)
	}
	if c.credentials {
		m.allow("Access-Control-Allow-Credentials", "true")
	}
	if c.expose != "" {
		m.allow("Access-Control-Expose-Headers", c.expose) // to preflight requests, too: the Gateway API's tests look there
	}
	return m
}

// allow sets a header that others were to be removed for.
func (m *headerModifier) allow(name, value string) {
	m.set = append(m.set, header{name, value})
	m.remove = slices.DeleteFunc(m.remove, func(n string) bool { return n == name })
}

// answer returns what is changed in the answer to a request.
func (c *cors) answer(r *http.Request) []headerModifier {
	return []headerModifier{c.origin(r.Header.Get("Origin"))}
}

// preflight answers whether a page may send a request.
func (c *cors) preflight(w http.ResponseWriter, r *http.Request) {
	m := c.origin(r.Header.Get("Origin"))
	if len(m.set) > 0 {
		list := func(name, asked string, allowed []string) {
			value := strings.Join(allowed, ", ")
			// To a page with credentials a * is the name of a header, and nothing more.
			if slices.Contains(allowed, "*") && c.credentials {
				value = asked
			}
			if value != "" {
				m.allow(name, value)
			}
		}
		list("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"), c.methods)
		list("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"), c.headers)
		m.allow("Access-Control-Max-Age", strconv.Itoa(c.maxAge))
	}
	m.apply(w.Header())
	w.WriteHeader(http.StatusNoContent)
}
