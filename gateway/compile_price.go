package gateway

import (
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/llm/price"
)

// priceTable returns the prices of a Backend, before those that are built in.
func priceTable(list []v1alpha1.ModelPrice) *price.Table {
	if len(list) == 0 {
		return price.BuiltIn()
	}
	var entries []price.Entry
	for i := range list {
		p := &list[i]
		e := price.Entry{Provider: p.Provider, Price: price.Price{Rates: ratesOf(&p.TokenPrices)}}
		if p.Long != nil {
			long := ratesOf(&p.Long.TokenPrices)
			e.Price.Long, e.Price.LongInput = &long, p.Long.Above
		}
		for _, e.Model = range p.Models {
			entries = append(entries, e)
		}
	}
	return price.New(entries, price.BuiltIn())
}

func ratesOf(p *v1alpha1.TokenPrices) price.Rates {
	optional := func(d v1alpha1.Dollars) *price.Nano {
		if d == "" {
			return nil
		}
		n := dollars(d)
		return &n
	}
	return price.Rates{
		Input: dollars(p.Input), Output: dollars(p.Output), CacheRead: optional(p.CacheRead), CacheWrite: optional(p.CacheWrite),
		CacheWriteHour: optional(p.CacheWriteHour), Reasoning: optional(p.Reasoning), AudioInput: optional(p.AudioInput), AudioOutput: optional(p.AudioOutput),
	}
}

// dollars returns an amount, 0 for none; what is no amount was refused.
func dollars(d v1alpha1.Dollars) price.Nano {
	n, err := price.ParseDollars(string(d))
	if err != nil {
		return 0
	}
	return n
}
