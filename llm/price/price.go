// Package price says what an answer of a language model costs.
//
// A [Table] holds [Price]s by provider and model. The one that is built in ([BuiltIn]) has the
// vendors' public list prices as of the day that stands in it; those of the configuration go before
// it. Costs are integers: billionths of a US dollar ([Nano]). Nothing is rounded but the sum.
//
// The package is a leaf. Package llm asks it at the end of an answer; it never guesses: a model that
// is not in the table has no cost.
package price

import (
	_ "embed"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"github.com/mcpgw/mcpgw/internal/glob"
)

// Nano is an amount of money in billionths of a US dollar.
type Nano int64

// String returns the amount in dollars, with all digits that it has and at least two behind the point.
func (n Nano) String() string {
	sign := ""
	u := uint64(n)
	if n < 0 {
		sign, u = "-", -u
	}
	fraction := strings.TrimRight(fmt.Sprintf("%09d", u%1e9), "0")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return sign + strconv.FormatUint(u/1e9, 10) + "." + fraction
}

// Dollars returns the amount in dollars, as near as a float is, for metrics.
func (n Nano) Dollars() float64 { return float64(n) / 1e9 }

// ParseDollars reads an amount of dollars: digits, and up to nine behind a point.
func ParseDollars(s string) (Nano, error) {
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || point && fraction == "" || len(whole) > 9 || len(fraction) > 9 {
		return 0, fmt.Errorf("%q is no amount of dollars, such as 12.50", s)
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", 9-len(fraction)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is no amount of dollars, such as 12.50", s)
	}
	return Nano(n), nil
}

// Rates are what a million tokens cost. Those of which a pointer is nil cost what the others
// of their side do.
type Rates struct {
	Input, Output Nano
	// CacheRead, CacheWrite and CacheWriteHour are of input that came from a cache, and that was
	// written to one for minutes or for an hour.
	CacheRead, CacheWrite, CacheWriteHour *Nano
	Reasoning                             *Nano // of output
	AudioInput, AudioOutput               *Nano
}

// A Price is what a model costs.
type Price struct {
	Rates
	// Long, when set, are the rates of requests with an input of more than LongInput tokens: for all of
	// their tokens.
	Long      *Rates
	LongInput int64
}

// Usage is what is paid for. Input and Output include the others, which are parts of them: CacheRead,
// CacheWrite and AudioInput of Input, CacheWriteHour of CacheWrite, Reasoning and AudioOutput of Output.
type Usage struct {
	Input, Output                         int64
	CacheRead, CacheWrite, CacheWriteHour int64
	Reasoning                             int64
	AudioInput, AudioOutput               int64
}

// Cost returns what the usage costs, rounded to the nearest billionth of a dollar.
func (p *Price) Cost(u Usage) Nano {
	r := &p.Rates
	if p.Long != nil && u.Input > p.LongInput {
		r = p.Long
	}
	or := func(rate *Nano, otherwise Nano) Nano {
		if rate == nil {
			return otherwise
		}
		return *rate
	}
	part := func(n, whole int64) int64 { return min(max(n, 0), max(whole, 0)) }
	read := part(u.CacheRead, u.Input)
	write := part(u.CacheWrite, u.Input-read)
	hour := part(u.CacheWriteHour, write)
	audio := part(u.AudioInput, u.Input-read-write) // audio that came from a cache is paid as such
	spoken := part(u.AudioOutput, u.Output)
	thought := part(u.Reasoning, u.Output-spoken)
	write5m := or(r.CacheWrite, r.Input)
	var sum total
	sum.add(u.Input-read-write-audio, r.Input)
	sum.add(read, or(r.CacheRead, r.Input))
	sum.add(write-hour, write5m)
	sum.add(hour, or(r.CacheWriteHour, write5m))
	sum.add(audio, or(r.AudioInput, r.Input))
	sum.add(u.Output-spoken-thought, r.Output)
	sum.add(thought, or(r.Reasoning, r.Output))
	sum.add(spoken, or(r.AudioOutput, r.Output))
	return sum.perMillion()
}

// A total is a sum of tokens times rates.
type total struct{ hi, lo uint64 }

func (t *total) add(tokens int64, rate Nano) {
	if tokens <= 0 || rate <= 0 {
		return
	}
	hi, lo := bits.Mul64(uint64(tokens), uint64(rate))
	var carry uint64
	t.lo, carry = bits.Add64(t.lo, lo, 0)
	t.hi, _ = bits.Add64(t.hi, hi, carry)
}

// perMillion returns the total divided by a million, rounded; what is more than a Nano can hold is
// the largest that it can.
func (t *total) perMillion() Nano {
	const million = 1e6
	lo, carry := bits.Add64(t.lo, million/2, 0)
	hi := t.hi + carry
	if hi >= million/2 {
		return 1<<63 - 1
	}
	n, _ := bits.Div64(hi, lo, million)
	if n > 1<<63-1 {
		return 1<<63 - 1
	}
	return Nano(n)
}

// An Entry is a price with what it is for.
type Entry struct {
	// Provider is the gen_ai.provider.name; "" is any.
	Provider string
	// Model is the model's name, in lower case; * stands for any characters.
	Model string
	Price Price
}

// A Table knows prices. It is immutable and safe for concurrent use. A nil Table knows none.
type Table struct {
	entries []Entry
	next    *Table
}

// New returns a table of the entries; what is in none of them is asked of next, which may be nil.
func New(entries []Entry, next *Table) *Table { return &Table{entries: entries, next: next} }

// Find returns the price of a model of a provider, nil when it is not known. Of several entries of a
// table that match, the one whose name has most characters beside * counts, then one that names the provider, then the first.
func (t *Table) Find(provider, model string) *Price {
	model = strings.ToLower(model)
	for ; t != nil && model != ""; t = t.next {
		best, most := -1, -1
		for i := range t.entries {
			e := &t.entries[i]
			if e.Provider != "" && e.Provider != provider || !glob.Match(e.Model, model) {
				continue
			}
			said := 2 * (len(e.Model) - strings.Count(e.Model, "*"))
			if e.Provider != "" {
				said++
			}
			if said > most {
				best, most = i, said
			}
		}
		if best >= 0 {
			return &t.entries[best].Price
		}
	}
	return nil
}

//go:embed prices.yaml
var prices []byte

// BuiltIn returns the table that is built in.
var BuiltIn = sync.OnceValue(func() *Table {
	t, err := read(prices)
	if err != nil {
		panic(err) // a test reads it
	}
	return t
})

// A rates is Rates as the file has them, in dollars.
type rates struct {
	Input          string `yaml:"input"`
	Output         string `yaml:"output"`
	CacheRead      string `yaml:"cacheRead"`
	CacheWrite     string `yaml:"cacheWrite"`
	CacheWriteHour string `yaml:"cacheWriteHour"`
	AudioInput     string `yaml:"audioInput"`
	AudioOutput    string `yaml:"audioOutput"`
}

func (r *rates) read() (out Rates, err error) {
	read := func(s string) Nano {
		if s == "" {
			return 0
		}
		n, e := ParseDollars(s)
		if e != nil {
			err = e
		}
		return n
	}
	optional := func(s string) *Nano {
		if s == "" {
			return nil
		}
		n := read(s)
		return &n
	}
	out = Rates{
		Input: read(r.Input), Output: read(r.Output), CacheRead: optional(r.CacheRead), CacheWrite: optional(r.CacheWrite),
		CacheWriteHour: optional(r.CacheWriteHour), AudioInput: optional(r.AudioInput), AudioOutput: optional(r.AudioOutput),
	}
	return out, err
}

// read reads a file of prices.
func read(b []byte) (*Table, error) {
	var file struct {
		Vendors []struct {
			Providers []string `yaml:"providers"`
			Source    string   `yaml:"source"`
			Prices    []struct {
				Models []string `yaml:"models"`
				rates  `yaml:",inline"`
				Long   *struct {
					Above int64 `yaml:"above"`
					rates `yaml:",inline"`
				} `yaml:"long"`
			} `yaml:"prices"`
		} `yaml:"vendors"`
		AsOf string `yaml:"asOf"`
	}
	if err := yaml.Load(b, &file, yaml.WithKnownFields(true)); err != nil {
		return nil, err
	}
	t := &Table{}
	for _, v := range file.Vendors {
		for _, p := range v.Prices {
			var price Price
			var err error
			if price.Rates, err = p.rates.read(); err != nil {
				return nil, fmt.Errorf("%v: %w", p.Models, err)
			}
			if p.Long != nil {
				long, err := p.Long.read()
				if err != nil {
					return nil, fmt.Errorf("%v: %w", p.Models, err)
				}
				price.Long, price.LongInput = &long, p.Long.Above
			}
			for _, provider := range v.Providers {
				for _, m := range p.Models {
					t.entries = append(t.entries, Entry{provider, m, price})
				}
			}
		}
	}
	return t, nil
}
