package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/telemetry"
)

// transformed starts a gateway whose only route has a transformation and leads to h.
func transformed(t *testing.T, h http.HandlerFunc, spec, more string) *testGateway {
	t.Helper()
	return start(t, static("a", serveUpstream(t, h))+route("r", "backendRefs: ["+to("a")+"]\n"+more)+
		webPolicyOn("p", "HTTPRoute", "r", "", "transformation: "+spec))
}

// telling answers with what it got.
func telling(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Old", "old")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "%s %s%s a=%s length=%d %s", r.Method, r.Host, r.RequestURI, strings.Join(r.Header["X-A"], "+"), r.ContentLength, body)
}

func TestTransformation(t *testing.T) {
	for _, tc := range []struct {
		name, spec, body string
		want             string // of telling
		header           string // of the answer: X-New, X-Old
		errors           bool   // an expression came to nothing
	}{
		{"nothing that applies", `{request: {remove: [x-none]}}`, "hi", "POST h/p?q=1 a=client length=2 hi", ",old", false},
		{"set", `{request: {set: [{name: x-a, value: "'v-' + request.headers['x-a']"}]}}`, "hi", "POST h/p?q=1 a=v-client length=2 hi", ",old", false},
		{"add", `{request: {add: [{name: x-a, value: "string(size(request.path))"}]}}`, "hi", "POST h/p?q=1 a=client+2 length=2 hi", ",old", false},
		{"remove", `{request: {remove: [X-A]}}`, "hi", "POST h/p?q=1 a= length=2 hi", ",old", false},
		{"all at once, of what came", `{request: {set: [{name: x-a, value: "'1'"}], add: [{name: x-a, value: "request.headers['x-a']"}], remove: [x-b]}}`, "", "POST h/p?q=1 a=1+client length=0 ", ",old", false},
		{"null", `{request: {set: [{name: x-a, value: "null"}]}}`, "", "POST h/p?q=1 a= length=0 ", ",old", false},
		{"an error leaves out what the client sent", `{request: {set: [{name: x-a, value: "jwt.sub"}]}}`, "", "POST h/p?q=1 a= length=0 ", ",old", true},
		{"a value that is none", `{request: {set: [{name: x-a, value: "'a\\r\\nb: c'"}]}}`, "", "POST h/p?q=1 a= length=0 ", ",old", true},
		{"pseudo headers", `{request: {set: [{name: ":path", value: "'/new' + request.path + '?r=2'"}, {name: ":method", value: "'PUT'"}, {name: ":authority", value: "'other:81'"}]}}`, "hi", "PUT other:81/new/p?r=2 a=client length=2 hi", ",old", false},
		{"a path that leads elsewhere", `{request: {set: [{name: ":path", value: "'/a/../b'"}]}}`, "", "POST h/p?q=1 a=client length=0 ", ",old", true},
		{"a path that is none", `{request: {set: [{name: ":path", value: "'http://x/'"}]}}`, "", "POST h/p?q=1 a=client length=0 ", ",old", true},
		{"a body", `{request: {body: {value: "'<' + request.body + '>'"}}}`, "hi", "POST h/p?q=1 a=client length=4 <hi>", ",old", false},
		{"a body of JSON", `{request: {body: {parseAs: AsJson, value: "{'m': request.body.model, 'n': request.body.n + 1}"}, set: [{name: x-a, value: "json(request.body).model"}]}}`, `{"model":"x","n":1}`, `POST h/p?q=1 a=x length=15 {"m":"x","n":2}`, ",old", false},
		{"a body that is no JSON", `{request: {body: {parseAs: AsJson, value: "request.body.model"}}}`, "hi", "POST h/p?q=1 a=client length=2 hi", ",old", true},
		{"no body", `{request: {body: {value: "'new'"}}}`, "", "POST h/p?q=1 a=client length=3 new", ",old", false},
		{"an empty one", `{request: {body: {value: "''"}}}`, "hi", "POST h/p?q=1 a=client length=0 ", ",old", false},
		{"an answer's head", `{response: {set: [{name: x-new, value: "string(response.code) + response.headers['x-old'] + request.path"}], remove: [x-old]}}`, "hi", "POST h/p?q=1 a=client length=2 hi", "201old/p,", false},
		{"an answer's head, by its body", `{response: {set: [{name: x-new, value: "response.body.substring(0, 4)"}]}}`, "hi", "POST h/p?q=1 a=client length=2 hi", "POST,old", false},
		{"an answer's body", `{response: {body: {value: "response.body.replace('POST', request.body)"}}}`, "hi", "hi h/p?q=1 a=client length=2 hi", ",old", false},
		{"an answer's body, with an error", `{response: {body: {value: "json(response.body)"}, set: [{name: x-new, value: "'set'"}]}}`, "hi", "POST h/p?q=1 a=client length=2 hi", "set,old", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			metrics := telemetry.NewMetrics(telemetry.MetricsOptions{WithoutRuntime: true})
			g := startOn(t, RuntimeOptions{Metrics: metrics}, Options{}, static("a", serveUpstream(t, telling))+route("r", "backendRefs: ["+to("a")+"]")+
				webPolicyOn("p", "HTTPRoute", "r", "", "transformation: "+tc.spec))
			got := g.do("POST", g.url("8080", "/p?q=1"), strings.NewReader(tc.body), "Host", "h", "X-A", "client", "X-B", "b")
			if diff := cmp.Diff(tc.want, got.Body); diff != "" || got.Status != 201 {
				t.Errorf("status %d (-want +got):\n%s", got.Status, diff)
			}
			if h := got.Header.Get("X-New") + "," + got.Header.Get("X-Old"); h != tc.header {
				t.Errorf("header %s, want %s", h, tc.header)
			}
			if n := counted(t, metrics, "mcpgw_cel_errors_total"); (n > 0) != tc.errors {
				t.Errorf("%d errors are counted", n)
			}
		})
	}
}

// TestTransformationLimits is about bodies that are too large to be read.
func TestTransformationLimits(t *testing.T) {
	g := transformed(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, `{request: {set: [{name: x-a, value: "string(size(request.body))"}]}}`, "")
	for size, want := range map[int]int{maxTransformed: 200, maxTransformed + 1: 413} {
		for _, body := range []io.Reader{strings.NewReader(strings.Repeat("a", size)), io.MultiReader(strings.NewReader(strings.Repeat("a", size)))} {
			if got := g.do("POST", g.url("8080", "/"), body); got.Status != want || want == 200 && len(got.Body) != size {
				t.Errorf("a request of %d bytes: %d with %d bytes", size, got.Status, len(got.Body))
			}
		}
	}
	g = transformed(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, `{response: {set: [{name: x-a, value: "string(size(response.body))"}]}}`, "")
	for size, want := range map[int]int{maxTransformed: 200, maxTransformed + 1: 500} {
		got := g.do("POST", g.url("8080", "/"), strings.NewReader(strings.Repeat("a", size)))
		if got.Status != want || want == 200 && (len(got.Body) != size || got.Header.Get("X-A") != fmt.Sprint(size)) {
			t.Errorf("an answer of %d bytes: %d with %d bytes, %s", size, got.Status, len(got.Body), got.Header.Get("X-A"))
		}
	}
	recs := g.ended(2)
	for _, rec := range recs {
		if rec.Status == 500 && rec.ErrorType != "internal" {
			t.Errorf("error type %q", rec.ErrorType)
		}
	}
}

// TestTransformationStreams is about answers that are not held: their heads are changed, and what asks for the body is
// left out.
func TestTransformationStreams(t *testing.T) {
	next := make(chan struct{})
	events := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 2 {
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}
	for name, spec := range map[string]string{
		"head": `{response: {set: [{name: x-new, value: "string(response.code)"}]}}`,
		"body": `{response: {set: [{name: x-new, value: "string(response.code)"}, {name: x-body, value: response.body}], body: {value: "'new'"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := transformed(t, events, spec, "")
			resp, err := http.Get(g.url("8080", "/"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if got := resp.Header; got.Get("X-New") != "200" || got.Get("X-Body") != "" {
				t.Errorf("header %v", got)
			}
			from := bufio.NewReader(resp.Body)
			for range 2 {
				if line, err := from.ReadString('\n'); err != nil || line != "data: 1\n" {
					t.Fatalf("read %q, %v", line, err)
				}
				_, _ = from.ReadString('\n')
				next <- struct{}{}
			}
			if rest, err := io.ReadAll(from); len(rest) > 0 || err != nil {
				t.Errorf("rest %q, %v", rest, err)
			}
		})
	}
	t.Run("tunnel", func(t *testing.T) {
		g := transformed(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
			_ = rw.Flush()
		}, `{response: {body: {value: "'new'"}}}`, "")
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 101 ") || !strings.HasSuffix(string(got), "\r\n\r\nhello") {
			t.Errorf("read %q, %v", got, err)
		}
	})
	t.Run("no body", func(t *testing.T) {
		g := transformed(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "5")
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}, `{response: {body: {value: "'new'"}, set: [{name: x-new, value: "'1'"}]}}`, "")
		for method, want := range map[string]string{"HEAD": "200 5 1 ", "DELETE": "204  1 "} {
			got := g.do(method, g.url("8080", "/"), nil)
			if is := fmt.Sprintf("%d %s %s %s", got.Status, got.Header.Get("Content-Length"), got.Header.Get("X-New"), got.Body); is != want {
				t.Errorf("%s: %s, want %s", method, is, want)
			}
		}
	})
	t.Run("compressed", func(t *testing.T) {
		g := transformed(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				defer func() { _ = z.Close() }()
				_, _ = io.WriteString(z, "text")
				return
			}
			_, _ = io.WriteString(w, "text")
		}, `{response: {body: {value: "response.body + '!'"}}}`, "")
		if got := g.get("/", "Accept-Encoding", "gzip"); got.Body != "text!" {
			t.Errorf("answer %q", got.Body)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		g := transformed(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}, `{response: {body: {value: "response.body + '!'"}}}`, "")
		if resp, err := http.Get(g.url("8080", "/")); err == nil {
			_ = resp.Body.Close()
			t.Errorf("half an answer is %d", resp.StatusCode)
		}
	})
}

// TestTransformationElsewhere is about MCP and language models.
func TestTransformationElsewhere(t *testing.T) {
	spec := `transformation: {request: {set: [{name: x-model, value: "json(request.body).model"}], body: {parseAs: AsJson, value: "{'model': 'other', 'stream': has(request.body.stream) && request.body.stream, 'messages': request.body.messages}"}}, response: {set: [{name: x-code, value: response.code}]}}`
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {kind: Inline, inline: k}}")+route("r", "backendRefs: ["+to("model")+"]")+webPolicyOn("p", "HTTPRoute", "r", "", spec))
	for _, stream := range []bool{false, true} {
		got := g.do("POST", g.url("8080", "/v1/chat/completions"), bytes.NewReader(llmtest.Chat.Request("hello", stream)))
		if _, _, _, body := s.seen(); got.Status != 200 || !strings.Contains(got.Body, "hello") || got.Header.Get("X-Code") != "200" || !strings.Contains(body, `"model":"other"`) {
			t.Errorf("answer %d %v %s; the provider got %s", got.Status, got.Header, got.Body, body)
		}
	}

	for _, modern := range []bool{false, true} {
		for _, version := range eras {
			t.Run(fmt.Sprint(version, "/", modern), func(t *testing.T) {
				m := newMCPServer(t, "/mcp", modern, "echo")
				for _, response := range []string{`{set: [{name: x-code, value: response.code}]}`, `{set: [{name: x-code, value: "string(response.body.size())"}]}`} {
					g := start(t, fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec: {type: MCP, mcp: {forwardHeaders: [x-caller], targets: [{name: t, static: {host: %s, port: %s, path: /mcp}}]}}
`, m.host, m.port)+route("r", "backendRefs: ["+to("tools")+"]")+
						webPolicyOn("p", "HTTPRoute", "r", "", `transformation: {request: {set: [{name: x-caller, value: "'from ' + request.host"}, {name: x-size, value: "string(size(request.body))"}]}, response: `+response+`}`))
					cs := g.connect(t, "/", version, nil)
					if got := toolNames(t, cs); len(got) != 1 {
						t.Errorf("tools %v", got)
					}
					if got := call(t, cs, "t_echo", nil); got != "echo" {
						t.Errorf("the tool says %s", got)
					}
					m.mu.Lock()
					if got := m.header.Get("X-Caller"); !strings.HasPrefix(got, "from 127.0.0.1") {
						t.Errorf("the target got %q", got)
					}
					m.mu.Unlock()
					if err := cs.Close(); err != nil {
						t.Error(err)
					}
					g.stop()
				}
			})
		}
	}
}

// TestTransformationCredentials is about what authentication has used: expressions can put another credential in its
// place.
func TestTransformationCredentials(t *testing.T) {
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]")+`
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {ann: secret-key-of-ann}
`+webPolicyOn("auth", "HTTPRoute", "r", "", "apiKeyAuthentication: {secretRef: {name: keys}}")+
		webPolicyOn("p", "HTTPRoute", "r", "", `transformation: {request: {set: [{name: authorization, value: "'Bearer for ' + apiKey.id + (has(request.headers['authorization']) ? '!' : '')"}]}}`))
	if e := decode(t, g.get("/", "Authorization", "Bearer secret-key-of-ann")); e.Header.Get("Authorization") != "Bearer for keys/ann" {
		t.Errorf("the service got %v", e.Header)
	}
}

// TestTransformationProblems is about transformations that can't be made: what they cover answers 500.
func TestTransformationProblems(t *testing.T) {
	for spec, want := range map[string]string{
		`{request: {set: [{name: x-a, value: "response.code"}]}}`:  "spec.transformation.request.set[0].value: response is not available: there is no response yet",
		`{response: {body: {value: "respnse.code"}}}`:              "spec.transformation.response.body.value: unknown name respnse;",
		`{response: {set: [{name: ":path", value: "'/'"}]}}`:       "spec.transformation.response.set[0].name: an answer has no pseudo headers that can be changed",
		`{request: {add: [{name: ":path", value: "'/'"}]}}`:        "spec.transformation.request.add[0].name: pseudo headers can be set, and not added or removed",
		`{request: {set: [{name: ":scheme", value: "'/'"}]}}`:      "spec.transformation.request.set[0].name: there is no pseudo header :scheme: set :path, :method or :authority",
		`{request: {set: [{name: host, value: "'/'"}]}}`:           "spec.transformation.request.set[0].name: set :authority in place of Host",
		`{request: {set: [{name: content-length, value: "'1'"}]}}`: "spec.transformation.request.set[0].name: content-length belongs to the connection, and is not changed",
		`{request: {set: [{name: x-mcpgw-peer, value: "'1'"}]}}`:   "spec.transformation.request.set[0].name: x-mcpgw-peer is a header of the gateway itself",
		`{response: {remove: [transfer-encoding]}}`:                "spec.transformation.response.remove[0]: transfer-encoding belongs to the connection, and is not changed",
	} {
		res := load(t, static("a", "{host: a.example, port: 80}")+route("r", "backendRefs: ["+to("a")+"]")+webPolicyOn("p", "HTTPRoute", "r", "", "transformation: "+spec))
		_, report := Compile(res, nil)
		found := false
		for _, p := range report.Problems {
			found = found || p.Class == config.Invalid && strings.HasPrefix(p.Path+": "+p.Message, want)
		}
		if !found {
			t.Errorf("%s: %+v, want %s", spec, report.Problems, want)
		}
	}
}
