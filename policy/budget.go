package policy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/limit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Unit is what a [Budget] counts.
type Unit uint8

// The units.
const (
	Requests Unit = iota
	InputTokens
	OutputTokens
	TotalTokens
	Cost // billionths of a US dollar
)

// String returns the words for the unit.
func (u Unit) String() string {
	return [...]string{"requests", "input tokens", "output tokens", "tokens", "cost"}[u]
}

// Amounts are what a request to a language model takes.
type Amounts struct {
	Input, Output int64 // tokens
	Cost          int64 // billionths of a US dollar
	// Priced says that Cost is known.
	Priced bool
}

func (a *Amounts) of(u Unit) int64 {
	switch u {
	case InputTokens:
		return a.Input
	case OutputTokens:
		return a.Output
	case TotalTokens:
		return a.Input + a.Output
	case Cost:
		return a.Cost
	default:
		return 1
	}
}

// A Budget is how much requests to language models and tool calls may take together in each window of
// its counter, apart for each descriptor.
type Budget struct {
	Source string // the object it comes from, Kind/namespace/name
	Name   string // unique in Source
	Unit   Unit
	Most   int64
	Shown  string // the most and the window, as clients read it: 100 requests a day
	// ToolCall is what a tool call takes.
	ToolCall   int64
	Descriptor Descriptor // of values that are known at the request
	Counter    limit.Counter

	Metrics *telemetry.Metrics
}

// A Reservation is what was taken of budgets for something that goes on: it is settled once that has
// ended. A nil Reservation took nothing. It belongs to one goroutine.
type Reservation struct {
	ctx       context.Context
	taken     []reserved
	spendings []spending
	estimate  func() Amounts
}

type reserved struct {
	budget *Budget
	taken  limit.Taken
	amount int64
}

// Reserve takes an estimate, which is asked for when there are budgets, of the budgets that cover the request that was admitted as ctx: of all of them, or of none. Of
// an estimate that is more than a whole budget it takes the whole. Its errors are [fault.RateLimited], [fault.Denied] when
// a budget counts money and the price is not known, and [fault.Overloaded] when a budget can't be counted; and those of services that
// count tokens, which are asked whether there are any left.
func Reserve(ctx context.Context, estimate func() Amounts) (*Reservation, error) {
	estimate = sync.OnceValue(estimate)
	r, err := reserve(ctx, func(b *Budget) (int64, error) {
		estimate := estimate()
		if b.Unit == Cost && !estimate.Priced {
			return 0, &fault.Fault{
				Code: fault.Denied, Message: fmt.Sprintf("the price of this model is not known, and the budget %s counts money", b.Name),
				Err: &Denial{Source: b.Source, Reason: "a model without a price under a budget of money: set spec.ai.prices of the Backend"},
			}
		}
		return estimate.of(b.Unit), nil
	})
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if err != nil || !ok || a.policy == nil || len(a.tokens()) == 0 {
		return r, err
	}
	spendings, err := a.spendings(ctx)
	if err != nil {
		r.Release()
		return nil, err
	}
	if r == nil {
		r = &Reservation{ctx: context.WithoutCancel(ctx)}
	}
	r.spendings, r.estimate = spendings, estimate
	return r, nil
}

// reserveCall takes what a tool call takes.
func reserveCall(ctx context.Context) (*Reservation, error) {
	return reserve(ctx, func(b *Budget) (int64, error) { return b.ToolCall, nil })
}

func reserve(ctx context.Context, amount func(*Budget) (int64, error)) (*Reservation, error) {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.policy == nil || len(a.policy.budgets) == 0 {
		return nil, nil
	}
	now := time.Now()
	r := &Reservation{ctx: context.WithoutCancel(ctx)}
	for i := range a.policy.budgets {
		b := &a.policy.budgets[i]
		n, err := amount(b)
		if err != nil {
			r.Release()
			return nil, err
		}
		key, ok := b.Descriptor.key("", &Subject{Request: a.request})
		if !ok || n <= 0 {
			continue
		}
		n = min(n, b.Most)
		t, err := b.Counter.Take(ctx, key, n, b.Most, now)
		if err == nil && !t.OK {
			err = b.exhausted(t, now)
		} else if err != nil {
			err = fault.Wrap(fault.Overloaded, err, "the budget %s can't be counted at the moment", b.Name)
		}
		if err != nil {
			r.Release()
			return nil, err
		}
		r.taken = append(r.taken, reserved{b, t, n})
	}
	return r, nil
}

// exhausted is the fault of a request that is over the budget.
func (b *Budget) exhausted(t limit.Taken, now time.Time) error {
	b.Metrics.Limited(b.Source, b.Name)
	wait := t.Reset.Sub(now)
	message := fmt.Sprintf("the budget %s is exhausted: %s", b.Name, b.Shown)
	return &fault.Fault{
		Code: fault.RateLimited, Message: message, RetryAfter: wait, Header: limitHeader(b.Most, t.Left, wait),
		Err: &Denial{Source: b.Source, Reason: strings.TrimPrefix(message, "the ")},
	}
}

// Settle corrects what was taken to what was used: where it is not known, the estimate stays.
func (r *Reservation) Settle(used Amounts) {
	if r != nil {
		for i := range r.spendings {
			r.spendings[i].spend(r.ctx, used.of(TotalTokens))
		}
	}
	r.correct(func(t *reserved) int64 {
		if t.budget.Unit == Cost && !used.Priced {
			return 0
		}
		return used.of(t.budget.Unit) - t.amount
	})
}

// Keep leaves what was taken as it is, since nobody says what was used; services that count tokens get the estimate.
func (r *Reservation) Keep() {
	if r == nil {
		return
	}
	for i := range r.spendings {
		estimate := r.estimate()
		r.spendings[i].spend(r.ctx, estimate.of(TotalTokens))
	}
}

// Release gives back what was taken.
func (r *Reservation) Release() {
	r.correct(func(t *reserved) int64 { return -t.amount })
}

func (r *Reservation) correct(delta func(*reserved) int64) {
	if r == nil {
		return
	}
	for i := range r.taken {
		t := &r.taken[i]
		if d := delta(t); d != 0 {
			_ = t.budget.Counter.Add(r.ctx, t.taken, d) // the counter says when it can't be reached
		}
	}
	r.taken = nil
}
