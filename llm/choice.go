package llm

import (
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/glob"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// providers yields the providers, most preferred group first.
func (b *Backend) providers() iter.Seq[*Provider] {
	return func(yield func(*Provider) bool) {
		for _, group := range b.cfg.Groups {
			for _, p := range group {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// choose returns the groups of the providers that may be asked for a model, and the name by
// which they know it: where a provider lists models, NAME/MODEL is the MODEL of the provider
// NAME, any other goes to those that list it, else to those that list none.
func (b *Backend) choose(model string) (groups [][]*Provider, name string, err error) {
	if !b.routed || model == "" {
		return b.cfg.Groups, model, nil
	}
	if first, rest, ok := strings.Cut(model, "/"); ok && rest != "" {
		for p := range b.providers() {
			if p.Name == first && p.Name != "" {
				return [][]*Provider{{p}}, rest, nil
			}
		}
	}
	if groups = only(b.cfg.Groups, func(p *Provider) bool { return p.lists(model) }); len(groups) > 0 {
		return groups, model, nil
	}
	if groups = only(b.cfg.Groups, func(p *Provider) bool { return len(p.Models) == 0 }); len(groups) > 0 {
		return groups, model, nil
	}
	return nil, "", b.noSuchModel(model)
}

// only returns the groups without the providers that keep refuses.
func only(from [][]*Provider, keep func(*Provider) bool) (groups [][]*Provider) {
	for _, group := range from {
		group = slices.DeleteFunc(slices.Clone(group), func(p *Provider) bool { return !keep(p) })
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

// noSuchModel returns the error of a model that no provider serves.
func (b *Backend) noSuchModel(model string) error {
	const most = 20 // that are named
	var there []string
	for p := range b.providers() {
		for _, m := range p.Models {
			if p.Name != "" {
				m += " (" + p.Name + ")"
			}
			there = append(there, m)
		}
	}
	if len(there) > most {
		there = append(there[:most], "...")
	}
	message := "no provider serves this model"
	if len(there) > 0 {
		message += ": there are " + strings.Join(there, ", ") + "; PROVIDER/MODEL asks one of them for any model"
	}
	e := &dialect.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "model_not_found", Param: "model", Message: message}
	return fault.Wrap(fault.NotFound, e, "no provider serves the model %.100q", model)
}

// lists reports whether the provider names the model as one that it is asked for.
func (p *Provider) lists(model string) bool {
	return slices.ContainsFunc(p.Models, func(pattern string) bool { return glob.Match(pattern, model) })
}

// next returns the provider to ask next: of the first group that has one which was not
// asked yet and is not out, the less busy of two random ones. When all are out the one
// that has been out for longest in the first group is asked, if nobody was yet. It
// returns nil when there is nobody left.
func next(groups [][]*Provider, tried []*Provider) *Provider {
	now := time.Now()
	for _, group := range groups {
		from := make([]*Provider, 0, len(group))
		for _, p := range group {
			if !slices.Contains(tried, p) && p.Health.available(now) {
				from = append(from, p)
			}
		}
		for len(from) > 0 {
			i := leastOfTwo(from)
			if from[i].Health.claim(now) {
				return from[i]
			}
			from = append(from[:i], from[i+1:]...)
		}
	}
	if len(tried) > 0 {
		return nil
	}
	var first *Provider
	for _, p := range groups[0] {
		if first == nil || p.Health.returns().Before(first.Health.returns()) {
			first = p
		}
	}
	return first
}

func leastOfTwo(from []*Provider) int {
	if len(from) == 1 {
		return 0
	}
	i := rand.IntN(len(from))
	j := (i + 1 + rand.IntN(len(from)-1)) % len(from)
	if from[j].Health.active.Load() < from[i].Health.active.Load() {
		return j
	}
	return i
}
