package telemetry

import (
	"errors"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// An Account takes the Records of requests: it counts them and writes the access log.
// Both may be nil. It is safe for concurrent use.
type Account struct {
	Metrics *Metrics
	Log     *AccessLog
}

// Begin notes that a request is being served.
func (a *Account) Begin(r *Record) {
	r.begun = true
	if a.Metrics != nil {
		a.Metrics.inFlight.Inc()
	}
}

// End closes the account of a request: it sets Duration unless it is
// set, counts the request, writes its line of the access log, and sends its span. It does so once: a second
// End of the same Record does nothing.
func (a *Account) End(r *Record) {
	if r.ended {
		return
	}
	r.ended = true
	if r.Duration == 0 {
		r.Duration = time.Since(r.Start)
	}
	if r.MCP.ToolError && r.ErrorType == "" {
		r.ErrorType = ToolError
	}
	if m := a.Metrics; m != nil {
		if r.begun {
			m.inFlight.Dec()
		}
		m.request(r)
		if r.MCP.Method != "" {
			m.Operation(r, &r.MCP, r.ErrorType, r.Duration)
		}
		if r.LLM.Operation != "" {
			m.llm.operation(r)
		}
		if r.ErrorType == fault.Denied.String() {
			m.Denied(r.policy(), r.Backend)
		}
	}
	a.Log.write(r)
	r.endTrace()
}

// Passed ends the span of a request that another replica passed on, and accounts for:
// it is counted and logged there.
func (a *Account) Passed(r *Record) {
	if r.ended {
		return
	}
	r.ended = true
	r.endTrace()
}

// policy returns the object whose rule denied the request, as the error that did it says.
func (r *Record) policy() string {
	if r.Err == nil {
		return ""
	}
	var d interface{ DecidedBy() string }
	if errors.As(r.Err, &d) {
		return d.DecidedBy()
	}
	return ""
}

// isFault reports whether s is the name of a fault code.
func isFault(s string) bool {
	_, ok := fault.Parse(s)
	return ok
}
