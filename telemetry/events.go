package telemetry

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// A Stage is a step of a request that a verbose span tells of, under the name of its event. Those of bytes are Envoy's.
type Stage string

// The stages, in the order in which most requests come to them.
const (
	RouteMatched   Stage = "route_matched"
	PoliciesPassed Stage = "policies_passed"
	RequestRead    Stage = "last_downstream_rx_byte_received"
	UpstreamChosen Stage = "upstream_chosen" // with its address
	RequestSent    Stage = "last_upstream_tx_byte_sent"
	AnswerBegun    Stage = "first_upstream_rx_byte_received" // its head is there
	FirstContent   Stage = "first_content"                   // of what a language model says
	Answering      Stage = "first_downstream_tx_byte_sent"
	AnswerRead     Stage = "last_upstream_rx_byte_received"
	Answered       Stage = "last_downstream_tx_byte_sent"
)

// maxEvents bounds the events of one span.
const maxEvents = 64

// Events are those of a verbose span: when its request came to which [Stage]. They are safe for concurrent use. Nil Events
// take none.
type Events struct {
	mu   sync.Mutex
	list []event
}

type event struct {
	stage  Stage
	detail string
	at     time.Time
}

// EventsOf returns the events of the span that ctx is within, nil where none are wanted.
func EventsOf(ctx context.Context) *Events {
	if s := spanOf(ctx); s != nil {
		return s.events
	}
	return nil
}

// Events returns the events of the request's span, nil where none are wanted.
func (r *Record) Events() *Events {
	if r.span == nil {
		return nil
	}
	return r.span.events
}

// Add notes that the request has come to a stage. The detail, which may be "", is the address of an upstream. What is more than a span
// holds is left out.
func (e *Events) Add(stage Stage, detail string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) < maxEvents {
		e.list = append(e.list, event{stage, detail, time.Now()})
	}
}

// answered notes when an answer ended, if there was one.
func (e *Events) answered(at time.Time) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.ContainsFunc(e.list, func(ev event) bool { return ev.stage == Answering }) {
		e.list = append(e.list, event{stage: Answered, at: at})
	}
}

// tell adds the events to a span as it is sent.
func (e *Events) tell(s trace.Span) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		options := []trace.EventOption{trace.WithTimestamp(ev.at)}
		if ev.detail != "" {
			options = append(options, trace.WithAttributes(attribute.String("mcpgw.upstream", clip(ev.detail, maxName))))
		}
		s.AddEvent(string(ev.stage), options...)
	}
}
