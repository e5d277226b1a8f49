package gateway

import (
	"context"
	"crypto/rand"
	"math/bits"
	"net/http"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream"
)

// A hashing is what of a request is hashed, so that those that are alike reach the same endpoint.
type hashing struct{ values []hashed }

// A hashed is one value that is hashed.
type hashed struct {
	header   string // its name, canonical; "" is another value
	cookie   *v1alpha1.HashCookie
	terminal bool
}

// hashingOf returns nil when nothing is hashed.
func hashingOf(values []v1alpha1.HashPolicy) *hashing {
	if len(values) == 0 {
		return nil
	}
	h := new(hashing)
	for i := range values {
		p := &values[i]
		v := hashed{cookie: p.Cookie, terminal: p.Terminal}
		if p.Header != nil {
			v.header = http.CanonicalHeaderKey(p.Header.HeaderName)
		}
		h.values = append(h.values, v)
	}
	return h
}

// withHash returns ctx with the hash of the client's request, if it has one. It may set a cookie
// in the answer.
func (h *hashing) withHash(ctx context.Context, r *http.Request, source string, answer http.Header) context.Context {
	var hash uint64
	found := false
	for i := range h.values {
		p := &h.values[i]
		value, ok := "", false
		switch {
		case p.header != "":
			var all []string
			all, ok = r.Header[p.header]
			value = strings.Join(all, ",")
		case p.cookie != nil:
			value, ok = cookieOf(p.cookie, r, answer)
		default:
			value, ok = source, source != ""
		}
		if !ok {
			continue
		}
		hash, found = bits.RotateLeft64(hash, 1)^xxhash.Sum64String(value), true // as Envoy combines them
		if p.terminal {
			break
		}
	}
	if !found {
		return ctx
	}
	return upstream.WithHash(ctx, hash)
}

// cookieOf returns the value of a cookie, or of a new one that the client gets.
func cookieOf(spec *v1alpha1.HashCookie, r *http.Request, answer http.Header) (value string, ok bool) {
	if c, err := r.Cookie(spec.Name); err == nil {
		return c.Value, true
	}
	if spec.TTL == nil {
		return "", false
	}
	c := http.Cookie{
		Name: spec.Name, Value: rand.Text(), Path: spec.Path, MaxAge: int(spec.TTL.Value() / time.Second),
		Secure: spec.Secure, HttpOnly: spec.HTTPOnly,
	}
	switch spec.SameSite {
	case v1alpha1.CookieSameSiteStrict:
		c.SameSite = http.SameSiteStrictMode
	case v1alpha1.CookieSameSiteLax:
		c.SameSite = http.SameSiteLaxMode
	case v1alpha1.CookieSameSiteNone:
		c.SameSite = http.SameSiteNoneMode
	}
	answer.Add("Set-Cookie", c.String())
	return c.Value, true
}
