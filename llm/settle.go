package llm

import (
	"cmp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/price"
	"github.com/mcpgw/mcpgw/policy"
)

// Bounds of estimates.
const (
	bytesPerToken   = 3       // of a request: fewer than in most texts
	maxInputTokens  = 2 << 20 // more than any model takes
	usualOutput     = 4096    // tokens, of requests that set no limit
	maxOutputTokens = 1 << 20
)

// reserve takes of the budgets what the query may come to.
func (q *query) reserve() (*policy.Reservation, error) {
	if q.form.counts() {
		return nil, nil
	}
	return policy.Reserve(q.ctx, q.estimate)
}

// estimate returns what the query may take: a token for each three bytes of the request, and the output that it
// allows, at the highest price of the providers that may answer. Nobody knows what a realtime session comes to: it
// begins while something is left, and is settled when it ends.
func (q *query) estimate() policy.Amounts {
	e := policy.Amounts{Input: 1, Output: 1, Priced: true}
	if q.body != nil {
		e.Input = min((int64(len(q.body.Raw))+bytesPerToken-1)/bytesPerToken, maxInputTokens)
		if e.Output = q.allowedOutput(); q.form.embeds() {
			e.Output = 0
		}
	}
	for _, group := range q.cfg.Groups {
		for _, p := range group {
			found := q.cfg.priceOf(p, cmp.Or(p.Model, q.model))
			if found == nil {
				e.Priced = false
				continue
			}
			e.Cost = max(e.Cost, int64(found.Cost(price.Usage{Input: e.Input, Output: e.Output})))
		}
	}
	return e
}

// allowedOutput returns how many tokens of output the request allows.
func (q *query) allowedOutput() int64 {
	var allowed int64
	for _, name := range [...]string{"max_completion_tokens", "max_output_tokens", "max_tokens"} {
		allowed = max(allowed, number(q.body.Get(name)))
	}
	dialect.Members(q.body.Get("generationConfig"), func(name string, v jsontext.Value) {
		if name == "maxOutputTokens" {
			allowed = max(allowed, number(v))
		}
	})
	if allowed == 0 {
		allowed = usualOutput
	}
	answers := min(max(number(q.body.Get("n")), 1), 128)
	return min(allowed, maxOutputTokens) * answers
}

// number returns a number that is a member of a request, at most 2^40; 0 if it is none.
func number(v jsontext.Value) int64 {
	if v.Kind() != '0' {
		return 0
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 {
		return 0
	}
	return int64(min(f, 1<<40))
}

// spend settles what was taken of budgets: what the answer took as far as that is known, the estimate where the client
// got of an answer whose usage is not, and nothing where there was none.
func (q *query) spend(taken *policy.Reservation) {
	switch l := &q.rec.LLM; {
	case l.Usage.Known:
		taken.Settle(policy.Amounts{Input: l.Usage.Input, Output: l.Usage.Output, Cost: l.Cost, Priced: l.Priced})
	case !q.delivered:
		taken.Release()
	default:
		taken.Keep()
	}
}

// settle notes what an attempt took, once it has ended; f is why it failed, and another provider is
// asked. Then nothing of it counts.
func (a *attempt) settle(f *failure) {
	l := &a.rec.LLM
	if f != nil || a.form.counts() {
		return
	}
	if !a.content.IsZero() {
		l.FirstToken = a.content.Sub(a.sent)
		if !a.broken {
			l.Streaming = time.Since(a.content)
		}
	}
	a.price()
}

// price notes what the answer costs, as far as its usage is known.
func (a *attempt) price() {
	l := &a.rec.LLM
	if !l.Usage.Known || l.Priced {
		return
	}
	p := a.cfg.priceOf(a.provider, l.ResponseModel, a.named)
	if p == nil {
		a.unknownPrice()
		return
	}
	u := &l.Usage
	l.Priced, l.Cost = true, int64(p.Cost(price.Usage{
		Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, CacheWriteHour: u.CacheWriteHour,
		Reasoning: u.Reasoning, AudioInput: u.AudioInput, AudioOutput: u.AudioOutput,
	}))
}

// priceOf returns the price of the first of the models whose price is known, nil if it is of none.
func (c *Config) priceOf(p *Provider, models ...string) *price.Price {
	for _, m := range models {
		if found := c.Prices.Find(p.Vendor.String(), m); found != nil {
			return found
		}
	}
	return nil
}

// maxUnpriced bounds the models of which the log is told.
const maxUnpriced = 100

// unknownPrice tells the log once of a model without a price.
func (a *attempt) unknownPrice() {
	model := a.rec.LLM.ResponseModel
	if model == "" {
		model = a.named
	}
	told := 0
	a.unpriced.Range(func(any, any) bool { told++; return told < maxUnpriced })
	if told >= maxUnpriced {
		return
	}
	if _, before := a.unpriced.LoadOrStore(a.provider.Vendor.String()+" "+model, true); !before {
		a.cfg.Logger.Warn("the price of a model is not known: what it costs is not counted; set it in spec.ai.prices of the Backend",
			"backend", a.cfg.Name, "provider", a.provider.label(), "model", model)
	}
}

// errorType returns the error.type of an attempt, "" when all went well.
func (a *attempt) errorType(f *failure, err error) string {
	switch {
	case f != nil && f.says != nil:
		return strconv.Itoa(f.says.Status)
	case f != nil:
		return fault.Of(ofProvider(f.err)).Code.String()
	case err != nil:
		return fault.Of(err).Code.String()
	case a.refused != nil:
		return strconv.Itoa(a.refused.Status)
	case a.broken:
		return a.rec.ErrorType
	}
	return ""
}
