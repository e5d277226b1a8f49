package fault

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWriteGRPC(t *testing.T) {
	f := Wrap(RateLimited, errors.New("secret cause"), "100%% é\n")
	w := httptest.NewRecorder()
	f.WriteGRPC(w)
	h := w.Result().Header
	if w.Code != 200 || w.Body.Len() != 0 || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Status") != "8" || h.Get("Grpc-Message") != "100%25 %C3%A9%0A" {
		t.Errorf("%d %v", w.Code, h)
	}
	for c := range table {
		if n := table[c].grpc; n < 1 || n > 16 {
			t.Errorf("%s is %d for gRPC", Code(c), n)
		}
	}
}

func TestIsGRPC(t *testing.T) {
	for _, tc := range []struct {
		method, content string
		major           int
		want            bool
	}{
		{"POST", "application/grpc", 2, true}, {"POST", "application/grpc+json", 2, true}, {"POST", "application/grpc; a=b", 2, true}, {"POST", "application/grpc;a=b", 2, true},
		{"POST", "application/grpc-web", 2, false}, {"POST", "application/grpc-web+proto", 2, false}, {"POST", "application/json", 2, false}, {"POST", "", 2, false},
		{"GET", "application/grpc", 2, false}, {"POST", "application/grpc", 1, false},
	} {
		r := &http.Request{Method: tc.method, ProtoMajor: tc.major, Header: http.Header{}}
		if tc.content != "" {
			r.Header.Set("Content-Type", tc.content)
		}
		if got := IsGRPC(r); got != tc.want {
			t.Errorf("%v: %v", tc, got)
		}
	}
}
