package accesslog

import (
	"slices"

	"github.com/mcpgw/mcpgw/policy"
)

// A Filter says whether an entry is logged.
type Filter func(*Entry) bool

// A Comparison compares a number with a limit.
type Comparison func(int64) bool

// EQ, GE and LE are the comparisons with a limit.
func EQ(limit int64) Comparison { return func(n int64) bool { return n == limit } }

// GE: see [EQ].
func GE(limit int64) Comparison { return func(n int64) bool { return n >= limit } }

// LE: see [EQ].
func LE(limit int64) Comparison { return func(n int64) bool { return n <= limit } }

// Status compares the status that was sent, 0 for none.
func Status(c Comparison) Filter { return func(e *Entry) bool { return c(int64(e.Status)) } }

// Took compares the time that the request took, in milliseconds.
func Took(c Comparison) Filter { return func(e *Entry) bool { return c(e.Duration.Milliseconds()) } }

// NotHealthCheck takes what is no health check.
func NotHealthCheck() Filter { return func(e *Entry) bool { return !e.HealthCheck } }

// Traced takes requests with a span.
func Traced() Filter { return func(e *Entry) bool { return e.Record.Traced() } }

// RequestHeader takes requests with a header that passes a test; name is canonical.
func RequestHeader(name string, test func(value string) bool) Filter {
	return func(e *Entry) bool {
		v, ok := e.requestHeader(name)
		return ok && test(v)
	}
}

// Flagged takes what has one of the response flags.
func Flagged(names []string) Filter {
	return func(e *Entry) bool {
		return slices.ContainsFunc(e.flags(), func(f flag) bool { return slices.Contains(names, f.short) })
	}
}

// GRPCStatus takes answers with one of the statuses, or with none of them.
func GRPCStatus(names []string, exclude bool) Filter {
	return func(e *Entry) bool {
		n := e.inferredStatus()
		return (n < len(grpcStatuses) && slices.Contains(names, grpcStatuses[n])) != exclude
	}
}

// Condition takes what an expression is true for.
func Condition(v *policy.Value) Filter {
	return func(e *Entry) bool {
		got, ok := e.value(v)
		return ok && got == true
	}
}

// All takes what all filters take.
func All(filters []Filter) Filter {
	return func(e *Entry) bool { return !slices.ContainsFunc(filters, func(f Filter) bool { return !f(e) }) }
}

// Any takes what one of the filters takes.
func Any(filters []Filter) Filter {
	return func(e *Entry) bool { return slices.ContainsFunc(filters, func(f Filter) bool { return f(e) }) }
}
