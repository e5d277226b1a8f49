package gateway

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/accesslog"
	"github.com/mcpgw/mcpgw/policy"
)

// What is noted of a request for the access logs of its Gateway only.
type logged struct {
	logs      []*logPlan
	keep      bool        // the header of the answer is needed
	header    http.Header // of the answer, as it was sent
	firstByte time.Time
	bodyEnd   time.Time
	sent      string       // path and query that were sent upstream, where a route has changed them
	to        *destination // nil without
	direct    bool         // the route answered itself
	reply     string       // what the gateway answered
}

// begin prepares for the logs of an edge.
func (l *logged) begin(x *exchange, e *edge) {
	if len(e.logs) == 0 {
		return
	}
	l.logs, l.keep = e.logs, e.keepsHeader()
	x.writer.logged, x.body.logged = l, l
}

// answers notes the header of the answer. A nil logged notes nothing.
func (l *logged) answers(h http.Header) {
	if l == nil {
		return
	}
	l.firstByte = time.Now()
	if l.keep {
		l.header = maps.Clone(h)
	}
}

// bodyEnded notes that the request had come whole.
func (l *logged) bodyEnded() {
	if l != nil && l.bodyEnd.IsZero() {
		l.bodyEnd = time.Now()
	}
}

// write writes the entries of a request that has ended.
func (l *logged) write(x *exchange) {
	if len(l.logs) == 0 {
		return
	}
	e := accesslog.Entry{
		Record: &x.rec, Policy: &x.request, Header: l.header, Sent: l.sent, Direct: l.direct, Reply: l.reply,
		BodyEnd: l.bodyEnd, FirstByte: l.firstByte,
	}
	if d := l.to; d != nil {
		e.Cluster, e.Backend = d.cluster, &policy.BackendInfo{Name: d.name, Type: d.kind, Protocol: "http"}
	}
	if l.keep && l.header != nil && !x.left {
		l.addTrailers(x.writer.Header())
	}
	for _, log := range l.logs {
		log.Write(&e)
	}
}

// addTrailers adds what was sent after the answer.
func (l *logged) addTrailers(h http.Header) {
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if v := h[name]; v != nil {
				l.header[http.TrailerPrefix+name] = v
			}
		}
	}
	for name, v := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			l.header[name] = v
		}
	}
}

// ReopenLogs has the files of access logs be opened anew, as after they were moved.
func (s *Server) ReopenLogs() { s.opts.Runtime.reopenLogs() }
