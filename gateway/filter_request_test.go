package gateway

import (
	"net/http/httptest"
	"testing"
)

// Rules and the access log look at the request as it was accepted, whatever filters make of
// what is forwarded: a header that the configuration sets for the backend grants nothing.
func TestFiltersLeaveTheAcceptedRequest(t *testing.T) {
	accepted := httptest.NewRequest("GET", "http://a.example/x/y", nil)
	accepted.Header.Set("X-Role", "guest")
	forwarded := modifyRequest([]headerModifier{{set: []header{{name: "X-Role", value: "admin"}, {name: "Host", value: "b.example"}}, remove: []string{"X-None"}}}, accepted)
	forwarded = (&rewrite{hostname: "c.example", path: pathChange{full: true, value: "/z"}}).apply(forwarded, 0)
	if got := accepted.Header.Get("X-Role"); got != "guest" {
		t.Errorf("the accepted request has the role %q", got)
	}
	if accepted.Host != "a.example" || accepted.URL.Path != "/x/y" {
		t.Errorf("the accepted request is for %s%s", accepted.Host, accepted.URL.Path)
	}
	if got := forwarded.Header.Get("X-Role"); got != "admin" {
		t.Errorf("the forwarded request has the role %q", got)
	}
	if forwarded.Host != "c.example" || forwarded.URL.Path != "/z" {
		t.Errorf("the forwarded request is for %s%s", forwarded.Host, forwarded.URL.Path)
	}
	if modifyRequest(nil, accepted) != accepted || (*rewrite)(nil).apply(accepted, 0) != accepted {
		t.Error("a request that nothing changes is copied")
	}
}
