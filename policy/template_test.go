package policy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// admitted returns a context of an admitted request with a token.
func admittedContext(t *testing.T) context.Context {
	t.Helper()
	claims, err := NewClaims([]byte(`{"sub":"ann","org":{"id":7}}`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := New(Options{}).Admit(t.Context(), &Request{HTTP: httptest.NewRequest("GET", "/accepted", nil), Host: "host.example", Client: Client{JWT: claims}})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func message(t *testing.T) *Message {
	t.Helper()
	r := httptest.NewRequest("POST", "/now?q=1", nil).WithContext(admittedContext(t))
	r.Header.Set("X-A", "1")
	return &Message{
		Request: r, Body: []byte(`{"model":"m","n":9007199254740993,"list":[1,2.5,true,null,"é"]}`), Status: 201,
		Header: http.Header{"X-B": {"2", "3"}}, AnswerBody: []byte(`{"ok":true}`), Backend: &BackendInfo{Name: "ns/b", Type: "Static"},
	}
}

func TestTemplateText(t *testing.T) {
	for source, want := range map[string]string{
		`'fixed'`:                           "fixed",
		`request.headers['x-a'] + 'b'`:      "1b",
		`request.path`:                      "/now",
		`request.host`:                      "host.example",
		`jwt.sub`:                           "ann",
		`jwt.org.id`:                        "7",
		`jwt.org.id == 7`:                   "true",
		`1.5`:                               "1.5",
		`2u`:                                "2",
		`b'bytes'`:                          "bytes",
		`response.code`:                     "201",
		`response.headers['X-b']`:           "2,3",
		`size(request.body)`:                "63",
		`json(request.body).model`:          "m",
		`json(response.body).ok`:            "true",
		`backend.name + ' ' + backend.type`: "ns/b Static",
		`has(jwt.email) ? jwt.email : null`: "<nil>",
		`jwt.email`:                         "error",
		`jwt.org`:                           "error",
		`1 / 0`:                             "error",
		`request.headers['x-none']`:         "error",
		`[1,2].map(x, [1,2].map(y, y))`:     "error",
	} {
		tpl, err := CompileAnswerTemplate(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		m := message(t)
		text, ok, err := tpl.Text(m.Request.Context(), m)
		switch {
		case err != nil:
			text = "error"
		case !ok:
			text = "<nil>"
		}
		if text != want {
			t.Errorf("%s: %q, %v, want %q", source, text, err, want)
		}
	}
}

func TestTemplateWhole(t *testing.T) {
	for _, tc := range []struct {
		source string
		parsed bool
		want   string
	}{
		{`request.body`, false, `{"model":"m","n":9007199254740993,"list":[1,2.5,true,null,"é"]}`},
		{`request.body`, true, `{"list":[1,2.5,true,null,"é"],"model":"m","n":9007199254740993}`},
		{`request.body.model`, true, `m`},
		{`{'was': request.body.model, 'by': jwt.sub, 'n': [1u, 2.0], 'none': null}`, true, `{"by":"ann","n":[1,2],"none":null,"was":"m"}`},
		{`'<' + request.body.replace('"', '')  + '>'`, false, `<{model:m,n:9007199254740993,list:[1,2.5,true,null,é]}>`},
		{`response.body.ok`, true, `true`},
		{`{1: 2}`, true, "error"},
		{`[1.0 / 0.0]`, true, "error"},
		{`request.body.none`, true, "error"},
	} {
		tpl, err := CompileAnswerTemplate(tc.source)
		if err != nil {
			t.Errorf("%s: %v", tc.source, err)
			continue
		}
		m := message(t)
		got, err := tpl.Whole(m.Request.Context(), m, tc.parsed)
		if err != nil {
			got = []byte("error")
		}
		if string(got) != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.source, got, err, tc.want)
		}
	}
}

// TestTemplateBodies is about which bodies a template has to have, and what it does without them.
func TestTemplateBodies(t *testing.T) {
	for source, want := range map[string][2]bool{
		`'body'`: {}, `request.headers['body']`: {}, `{'body': 1}.body`: {}, `request.body`: {true, false}, `response.body`: {false, true},
		`has(request.body) && response.?body.hasValue()`: {true, true},
	} {
		tpl, err := CompileAnswerTemplate(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if request, response := tpl.SpeaksOfBody(); request != want[0] || response != want[1] {
			t.Errorf("%s: %v, %v, want %v", source, request, response, want)
		}
	}
	tpl, err := CompileRequestTemplate(`request.body`)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"unread": nil, "not text": {0xff}, "not JSON": []byte("{"), "twice": []byte(`{"a":1,"a":2}`), "deep": []byte(strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2))} {
		m := message(t)
		m.Body = body
		if got, err := tpl.Whole(m.Request.Context(), m, name != "not text"); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
	m := message(t)
	if _, _, err := tpl.Text(t.Context(), m); !errors.Is(err, errAbsent) {
		t.Errorf("of a request that nobody admitted: %v", err)
	}
}

// TestTemplateLimits is about values that are too large.
func TestTemplateLimits(t *testing.T) {
	tpl, err := CompileRequestTemplate(`[request.body, request.body, request.body, request.body]`)
	if err != nil {
		t.Fatal(err)
	}
	for size, fails := range map[int]bool{maxTemplated / 8: false, maxTemplated/2 + 10: true} {
		m := message(t)
		m.Body = []byte(strings.Repeat("a", size))
		if got, err := tpl.Whole(m.Request.Context(), m, false); (err != nil) != fails {
			t.Errorf("four times %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	if _, err := CompileRequestTemplate("'" + strings.Repeat("a", maxExpression) + "'"); err == nil {
		t.Error("an expression over the limit is compiled")
	}
}

func TestTemplateMistakes(t *testing.T) {
	for source, want := range map[string]string{
		`response.code`: "response is not available: there is no response yet",
		`mcp.tool.name`: "mcp is not available: what a request asks for is read later",
		`request`:       "this is no value by itself; name one of its fields, method, path, uri, host, scheme, query, headers, body, or ask has() for it",
		`request.bdy`:   "unknown field bdy",
		`1 +`:           "",
	} {
		_, err := CompileRequestTemplate(source)
		var at *ExpressionError
		if !errors.As(err, &at) || !strings.HasPrefix(at.Message, want) {
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
}
