package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLambdaURL(t *testing.T) {
	for _, tc := range []struct{ endpoint, want string }{
		{"https://lambda.eu-west-1.amazonaws.com", "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af/invocations?Qualifier=%24LATEST"},
		{"http://h:1/a%2fb/", "http://h:1/a%2fb/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af/invocations?Qualifier=%24LATEST"},
	} {
		u, err := url.Parse(tc.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if got := LambdaURL(u, "arn:aws:lambda:eu-west-1:123456789012:function:f", "$LATEST"); got.String() != tc.want || got.RequestURI()[0] != '/' {
			t.Errorf("%s\nwant %s", got, tc.want)
		}
	}
}

func TestLambdaResults(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	for _, tc := range []struct {
		result string
		status int
		header http.Header
		body   string
		err    string
	}{
		{``, 200, json, "", ""},
		{`null`, 200, json, "", ""},
		{`{}`, 200, json, "", ""},
		{`{"body": "b"}`, 200, json, "b", ""},
		{`{"statusCode": 201, "body": "aGk=", "isBase64Encoded": true, "headers": {"content-type": "text/plain", "x-n": 5, "x-t": true}}`, 201,
			http.Header{"Content-Type": {"text/plain"}, "X-N": {"5"}, "X-T": {"true"}}, "hi", ""},
		{`{"status_code": 404, "body": "aGk=", "is_base64_encoded": true}`, 404, json, "hi", ""},
		{`{"statusCode": "503", "body": null}`, 503, json, "", ""},
		{`{"statusCode": 0}`, 200, json, "", ""},
		{`{"statusCode": 200, "multiValueHeaders": {"x-a": ["1", 2]}, "headers": {"x-a": "0"}, "cookies": ["a=1; HttpOnly", "b=2"]}`, 200,
			http.Header{"Content-Type": {"application/json"}, "X-A": {"1", "2"}, "Set-Cookie": {"a=1; HttpOnly", "b=2"}}, "", ""},
		{`{"statusCode": 200, "headers": {"Connection": "close, x-hop", "x-hop": "1", "Transfer-Encoding": "chunked", "Content-Length": "99"}}`, 200, json, "", ""},
		{`"text"`, 0, nil, "", "neither null nor an object"},
		{`[1]`, 0, nil, "", "neither null nor an object"},
		{`{"message": "hi"}`, 0, nil, "", "neither null nor an object"},
		{`not JSON`, 0, nil, "", "neither null nor an object"},
		{`{"statusCode": 101}`, 0, nil, "", "101 is not a status of 200 to 599"},
		{`{"statusCode": 600}`, 0, nil, "", "600 is not a status of 200 to 599"},
		{`{"statusCode": 200.5}`, 0, nil, "", "200.5 is not a status"},
		{`{"body": {"a": 1}}`, 0, nil, "", "body of the result"},
		{`{"body": "!", "isBase64Encoded": true}`, 0, nil, "", "body of the result: illegal base64"},
		{`{"headers": {"a b": "1"}}`, 0, nil, "", "headers of the result: \"a b\" can't be sent"},
		{`{"headers": {"a": "1\r\nSet-Cookie: x"}}`, 0, nil, "", "the value of the header a can't be sent"},
		{`{"headers": {"a": []}}`, 0, nil, "", "the value of the header a is no text"},
		{`{"cookies": ["a\n"]}`, 0, nil, "", "a cookie can't be sent"},
		{`{"headers": {"a": "` + strings.Repeat("x", maxResponseHeader) + `"}}`, 0, nil, "", "over the limit of 262144 bytes"},
	} {
		a, err := unwrapResult([]byte(tc.result))
		switch {
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%.80s: %v, want %s", tc.result, err, tc.err)
		case tc.err == "" && err != nil:
			t.Errorf("%.80s: %v", tc.result, err)
		case tc.err == "":
			if diff := cmp.Diff(lambdaAnswer{tc.status, tc.header, []byte(tc.body)}, *a, cmp.AllowUnexported(lambdaAnswer{})); diff != "" {
				t.Errorf("%.80s (-want +got):\n%s", tc.result, diff)
			}
		}
	}
}

func FuzzLambdaResults(f *testing.F) {
	f.Add([]byte(`{"statusCode": 201, "headers": {"a": 1}, "multiValueHeaders": {"b": ["c"]}, "cookies": ["d=e"], "body": "aGk=", "isBase64Encoded": true}`))
	f.Fuzz(func(t *testing.T, result []byte) {
		a, err := unwrapResult(result)
		if err != nil {
			return
		}
		var head strings.Builder
		if err := a.header.Write(&head); err != nil || a.status < 200 || a.status > 599 {
			t.Fatalf("%d %v %v", a.status, a.header, err)
		}
	})
}
