package llm

import (
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/price"
)

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
