package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A virtual is a modern MCP server without a network, for tests in which the time
// does not pass by itself. It counts what it is asked.
type virtual struct {
	name string
	slow time.Duration // what each list takes

	mu       sync.Mutex
	tools    []string
	ttl      int                      // in milliseconds
	silent   bool                     // it accepts everything and answers nothing
	stuck    bool                     // it answers everything but lists
	changes  bool                     // it announces changes
	describe func(http.Header) string // of the tools, to who asks with this header
	asked    map[string]int
	streams  map[*io.PipeWriter]string // by the id of the subscription
}

func newVirtual(name string, ttl int, tools ...string) *virtual {
	return &virtual{name: name, ttl: ttl, tools: tools, changes: true, describe: func(http.Header) string { return "" }, asked: map[string]int{}, streams: map[*io.PipeWriter]string{}}
}

func (s *virtual) config() session.TargetConfig {
	return session.TargetConfig{Name: s.name, Transport: session.StreamableHTTP, URL: "http://" + s.name + "/mcp", RoundTripper: s, Identity: s.name}
}

// set changes the server.
func (s *virtual) set(f func(*virtual)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// count returns how often a method was asked for; "" stands for all.
func (s *virtual) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, times := range s.asked {
		if method == "" || m == method {
			n += times
		}
	}
	return n
}

// announce says on all streams that the tools changed.
func (s *virtual) announce() {
	s.mu.Lock()
	streams := maps.Clone(s.streams)
	s.mu.Unlock()
	for w, id := range streams {
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}}}\n\n", id)
	}
}

func (s *virtual) RoundTrip(r *http.Request) (*http.Response, error) {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return nil, err
	}
	if m.Method != r.Header.Get("Mcp-Method") {
		return nil, fmt.Errorf("the header says %q", r.Header.Get("Mcp-Method"))
	}
	s.mu.Lock()
	s.asked[m.Method]++
	silent := s.silent || s.stuck && m.Method == "tools/list"
	var tools []string
	for _, name := range s.tools {
		tools = append(tools, fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"},"description":%q}`, name, s.describe(r.Header)))
	}
	ttl, changes := s.ttl, s.changes
	s.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	answer := func(media string, body io.ReadCloser) *http.Response {
		return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {media}}, Request: r, Body: body}
	}
	result := func(members string) *http.Response {
		return answer("application/json", io.NopCloser(strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete",%s}}`, m.ID, members))))
	}
	switch m.Method {
	case "server/discover":
		return result(fmt.Sprintf(`"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":%v}},"instructions":"use %s"`, changes, s.name)), nil
	case "tools/list":
		time.Sleep(s.slow)
		return result(fmt.Sprintf(`"tools":[%s],"ttlMs":%d,"cacheScope":"public"`, strings.Join(tools, ","), ttl)), nil
	case "tools/call":
		return result(`"content":[{"type":"text","text":"` + s.name + `"}]`), nil
	case "subscriptions/listen":
		reader, w := io.Pipe()
		s.mu.Lock()
		s.streams[w] = string(m.ID)
		s.mu.Unlock()
		context.AfterFunc(r.Context(), func() {
			s.mu.Lock()
			delete(s.streams, w)
			s.mu.Unlock()
			_ = w.CloseWithError(r.Context().Err())
		})
		go func() {
			_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":{\"toolsListChanged\":true},\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}}}\n\n", m.ID)
		}()
		return answer("text/event-stream", reader), nil
	}
	return nil, fmt.Errorf("unexpected %s", m.Method)
}

// A lab is a hub without a network in front of virtual servers.
type lab struct {
	t       *testing.T
	hub     *Hub
	backend *Backend
	rules   *policy.Rules
	stop    func()
}

// newLab serves the servers until stop is called, which has to be before the end of
// the bubble.
func newLab(t *testing.T, cfg Config, servers ...*virtual) *lab {
	t.Helper()
	sealer, err := session.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, hub: NewHub(HubOptions{Sealer: sealer, Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer})})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.hub.Run(ctx) }()
	l.stop = func() { cancel(); <-done }
	cfg.Name = "default/lab"
	for _, s := range servers {
		c := s.config()
		c.Backend = cfg.Name
		cfg.Targets = append(cfg.Targets, c)
	}
	l.backend = l.hub.Backend(cfg)
	l.hub.Commit([]*Backend{l.backend})
	return l
}

// A page is what a client gets.
type page struct {
	mu     sync.Mutex
	header http.Header
	status int
	body   strings.Builder
}

func (p *page) Header() http.Header    { return p.header }
func (p *page) WriteHeader(status int) { p.status = status }
func (p *page) Flush()                 {}
func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.String()
}

// send serves one request of a modern client.
func (l *lab) send(method, name, params string, header ...string) string {
	l.t.Helper()
	p := &page{header: http.Header{}}
	l.serve(context.Background(), p, method, name, params, header...)
	return p.String()
}

func (l *lab) serve(ctx context.Context, p *page, method, name, params string, header ...string) {
	l.t.Helper()
	l.serveTo(ctx, p, method, name, params, header...)
}

func (l *lab) serveTo(ctx context.Context, p http.ResponseWriter, method, name, params string, header ...string) {
	if params != "" {
		params += ","
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+params+meta+`}}`))
	if err != nil {
		panic(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}}
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	admitted, err := policy.New(policy.Options{}).Admit(telemetry.NewContext(ctx, &telemetry.Record{}), &policy.Request{HTTP: r})
	if err != nil {
		panic(err)
	}
	r = r.WithContext(policy.WithBackend(admitted, l.rules))
	if err := l.backend.Serve(p, r); err != nil {
		l.backend.WriteError(p, r, err)
	}
}

// tools returns the names that a client lists and what is said to be degraded.
func (l *lab) tools() (names []string, degraded map[string]string) {
	l.t.Helper()
	body := l.send("tools/list", "", "")
	var m struct {
		Result struct {
			Tools []struct{ Name string }    `json:"tools"`
			Meta  map[string]json.RawMessage `json:"_meta"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Result.Tools == nil {
		l.t.Fatalf("%v in %s", err, body)
	}
	for _, t := range m.Result.Tools {
		names = append(names, t.Name)
	}
	if raw := m.Result.Meta[metaDegraded]; raw != nil {
		if err := json.Unmarshal(raw, &degraded); err != nil {
			l.t.Fatal(err)
		}
	}
	slices.Sort(names)
	return names, degraded
}

// listen opens a stream that follows the tools, until leave. told returns how often
// its client was told.
func (l *lab) listen() (told func() int, leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &page{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.serve(ctx, p, "subscriptions/listen", "", `"notifications":{"toolsListChanged":true}`)
	}()
	return func() int { return strings.Count(p.String(), "tools/list_changed") }, func() { cancel(); <-done }
}
