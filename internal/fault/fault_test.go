package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each code has a row of the table, with a status that is an error and a name of its own.
func TestTable(t *testing.T) {
	names := map[string]Code{}
	for c := Internal; c <= Misdirected; c++ {
		if c.Status() < 400 || c.Status() > 599 {
			t.Errorf("code %d has the status %d", c, c.Status())
		}
		if other, ok := names[c.String()]; ok || c.String() == "" {
			t.Errorf("codes %d and %d are both named %q", c, other, c.String())
		}
		names[c.String()] = c
		if got, ok := Parse(c.String()); !ok || got != c {
			t.Errorf("%s is parsed as %v, %v", c, got, ok)
		}
	}
	if len(names) != len(table) {
		t.Errorf("%d codes, %d rows", len(names), len(table))
	}
	if c, ok := Parse("nothing"); ok {
		t.Errorf("nothing is parsed as %v", c)
	}
	// Faults of the upstream never look like the client's, and the other way round.
	for c, class := range map[Code]int{UpstreamFailed: 5, UpstreamTimeout: 5, UpstreamUnreachable: 5, Misconfigured: 5, BadRequest: 4, Denied: 4, TooLarge: 4, ClientGone: 4, RequestTimeout: 4} {
		if c.Status()/100 != class {
			t.Errorf("%s has the status %d", c, c.Status())
		}
	}
}

func TestOf(t *testing.T) {
	cause := errors.New("dial 10.0.0.1: secret")
	own := Wrap(Denied, cause, "not %s", "you")
	for _, tt := range []struct {
		name    string
		err     error
		code    Code
		message string
	}{
		{"a fault", own, Denied, "not you"},
		{"a wrapped fault", fmt.Errorf("doing: %w", own), Denied, "not you"},
		{"a joined fault", errors.Join(cause, own), Denied, "not you"},
		{"the client went", fmt.Errorf("reading: %w", context.Canceled), ClientGone, "the client closed the request"},
		{"a deadline", fmt.Errorf("reading: %w", context.DeadlineExceeded), UpstreamTimeout, "the upstream did not answer in time"},
		{"a fault beside a cancelled context", fmt.Errorf("%w: %w", context.Canceled, own), Denied, "not you"},
		{"anything else", cause, Internal, "internal error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Of(tt.err)
			if got.Code != tt.code || got.Message != tt.message {
				t.Errorf("%s %q, want %s %q", got.Code, got.Message, tt.code, tt.message)
			}
			if !errors.Is(tt.err, got.Err) && got.Err != tt.err { //nolint:errorlint // the same error is meant
				t.Errorf("the operator loses the cause: %v", got.Err)
			}
		})
	}
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	if got := New(BadRequest, "100%% %d", 1).Error(); got != "100% 1" {
		t.Errorf("%q", got)
	}
	f := Wrap(BadRequest, cause, "message")
	if got := f.Error(); got != "message: cause" {
		t.Errorf("%q", got)
	}
	if !errors.Is(f, cause) {
		t.Error("the cause is not in the chain")
	}
}

func TestWriteText(t *testing.T) {
	f := Wrap(MethodNotAllowed, errors.New("secret cause"), "only POST is served")
	f.Header = http.Header{"Allow": {"POST"}}
	f.RetryAfter = 1500 * time.Millisecond
	w := httptest.NewRecorder()
	f.WriteText(w)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Status                                  int
		Body, Allow, RetryAfter, Type, Sniffing string
	}
	h := w.Result().Header
	got := answer{w.Code, string(body), h.Get("Allow"), h.Get("Retry-After"), h.Get("Content-Type"), h.Get("X-Content-Type-Options")}
	want := answer{405, "only POST is served", "POST", "2", "text/plain", "nosniff"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
