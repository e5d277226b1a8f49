package telemetry

import (
	"io"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"
)

// A Format is a form of log lines.
type Format uint8

// The formats; the zero value is JSON.
const (
	JSON Format = iota
	Text        // key=value, as log/slog writes it
)

// An AccessLog writes one line a request, in the form in which log/slog writes it: a line
// costs a fraction of what it costs there. It is safe for concurrent use; its writer is
// written to by one goroutine at a time. A nil AccessLog writes nothing.
//
// The fields, in this order; those of which nothing is known are left out:
//
//	time                 when the head of the request had been read
//	level, msg           INFO, request
//	request_id           x-request-id, as sent upstream and to the client
//	source               address and port of the client
//	method, host, path   of the request; the query is not logged, since it may hold credentials
//	protocol             HTTP/1.1, HTTP/2.0
//	status               sent to the client; 0 if none was
//	duration_ms          until the end of the answer, in milliseconds
//	bytes_received       of the body
//	bytes_sent           of the body
//	gateway, route, backend   as namespace/name; listener and rule by name
//	upstream, attempts   address of the last attempt, and how many there were
//	peer                 address of the replica that served the request, when it was another
//	mcp.method           JSON-RPC method
//	mcp.target           target of the backend
//	mcp.name             tool or prompt, as the target has it
//	mcp.client_name      the same, as the client sees it
//	mcp.resource         URI as the target has it, without user, query and fragment
//	mcp.version, mcp.era revision that the client speaks, and modern or legacy
//	gen_ai.operation.name, gen_ai.provider.name   what a language model was asked, and whose it is
//	gen_ai.request.model, gen_ai.response.model   the model that the client asked for, and that answered
//	gen_ai.response.finish_reason   why the answer ended
//	gen_ai.usage.input_tokens, gen_ai.usage.output_tokens   cached and reasoning ones included
//	gen_ai.usage.cache_read.input_tokens, gen_ai.usage.cache_creation.input_tokens, gen_ai.usage.reasoning.output_tokens   of those
//	gen_ai.usage.audio.input_tokens, gen_ai.usage.audio.output_tokens, llm.cache_creation_hour_tokens   of those
//	llm.cost_usd         what the answer costs by list prices, as a decimal number
//	llm.provider         the provider's name in its priority group
//	llm.sent_model       model that the provider was asked for, where it is another
//	llm.first_content_ms until the first content of a stream, in milliseconds
//	llm.dropped          fields of the request that the provider can't express, with commas
//	principal            who the client is, as authentication established it
//	error_type           what went wrong; the name of a fault, a JSON-RPC code or tool_error
//	policy               the object whose rule denied the request, as Kind/namespace/name
//	error                what the operator should know
type AccessLog struct {
	format Format
	mu     sync.Mutex
	w      io.Writer
}

// NewAccessLog returns an access log that writes each line to w in one Write.
func NewAccessLog(w io.Writer, format Format) *AccessLog {
	return &AccessLog{format: format, w: w}
}

// Limits on the text of one field.
const (
	maxPath  = 1024
	maxError = 2048
	maxName  = 256
)

// write writes the line of a request.
func (l *AccessLog) write(r *Record) {
	if l == nil {
		return
	}
	f := lines.Get().(*line)
	defer lines.Put(f)
	f.begin(l.format, r.Start)
	f.text("request_id", r.RequestID, maxName)
	f.source(r.Source)
	if q := r.Request; q != nil {
		f.text("method", q.Method, maxName)
		f.text("host", q.Host, maxName)
		if q.URL != nil {
			f.text("path", q.URL.Path, maxPath)
		}
		f.text("protocol", q.Proto, maxName)
	}
	f.number("status", int64(r.Status))
	f.millis("duration_ms", r.Duration)
	f.number("bytes_received", r.BytesRead)
	f.number("bytes_sent", r.BytesSent)
	f.text("gateway", r.Gateway, maxName)
	f.text("listener", r.Listener, maxName)
	f.text("route", r.Route, maxName)
	f.text("rule", r.Rule, maxName)
	f.text("backend", r.Backend, maxName)
	f.text("upstream", r.UpstreamHost, maxName)
	if r.Attempts > 0 {
		f.number("attempts", int64(r.Attempts))
	}
	if r.Retries > 0 {
		f.number("retries", int64(r.Retries))
	}
	f.text("peer", r.Peer, maxName)
	f.mcp(&r.MCP)
	f.llm(&r.LLM)
	f.text("principal", r.Principal, maxName)
	f.text("error_type", r.ErrorType, maxName)
	f.text("policy", r.policy(), maxName)
	if r.Err != nil {
		f.text("error", r.Err.Error(), maxError)
	}
	f.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(f.buf) // there is nowhere else to say it
}

func (f *line) mcp(m *MCP) {
	f.text("mcp.method", m.Method, maxName)
	f.text("mcp.target", m.Target, maxName)
	f.text("mcp.name", m.Name, maxName)
	if m.ClientName != m.Name {
		f.text("mcp.client_name", m.ClientName, maxName)
	}
	f.text("mcp.resource", withoutCredentials(m.URI), maxPath)
	f.text("mcp.version", m.ProtocolVersion, maxName)
	f.text("mcp.era", m.Era, maxName)
}

func (f *line) llm(l *LLM) {
	if l.Operation == "" {
		return
	}
	f.text("gen_ai.operation.name", l.Operation, maxName)
	f.text("gen_ai.provider.name", l.Provider, maxName)
	f.text("gen_ai.request.model", l.RequestModel, maxName)
	f.text("gen_ai.response.model", l.ResponseModel, maxName)
	f.text("gen_ai.response.finish_reason", l.FinishReason, maxName)
	if u := &l.Usage; u.Known {
		f.number("gen_ai.usage.input_tokens", u.Input)
		f.number("gen_ai.usage.output_tokens", u.Output)
		for _, n := range [...]struct {
			key string
			n   int64
		}{
			{"gen_ai.usage.cache_read.input_tokens", u.CacheRead},
			{"gen_ai.usage.cache_creation.input_tokens", u.CacheWrite},
			{"gen_ai.usage.reasoning.output_tokens", u.Reasoning},
			{"gen_ai.usage.audio.input_tokens", u.AudioInput},
			{"gen_ai.usage.audio.output_tokens", u.AudioOutput},
			{"llm.cache_creation_hour_tokens", u.CacheWriteHour},
		} {
			if n.n > 0 {
				f.number(n.key, n.n)
			}
		}
	}
	if l.Priced {
		f.dollars("llm.cost_usd", l.Cost)
	}
	f.text("llm.provider", l.Name, maxName)
	if l.SentModel != l.RequestModel {
		f.text("llm.sent_model", l.SentModel, maxName)
	}
	if l.FirstContent > 0 {
		f.millis("llm.first_content_ms", l.FirstContent)
	}
	f.text("llm.dropped", l.Dropped, maxPath)
}

// withoutCredentials takes from a URI the parts that may hold them.
func withoutCredentials(uri string) string {
	if !strings.ContainsAny(uri, "@?#") {
		return uri
	}
	u, err := url.Parse(uri)
	if err != nil {
		uri, _, _ = strings.Cut(uri, "?")
		if at := strings.LastIndexByte(uri, '@'); at >= 0 {
			return uri[at+1:]
		}
		return uri
	}
	u.User, u.RawQuery, u.Fragment, u.RawFragment = nil, "", "", ""
	return u.String()
}

// clip cuts s to limit bytes, at the border of a character.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
