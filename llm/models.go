package llm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/openai"
)

// How models are listed.
const (
	listTime  = 5 * time.Second  // for one provider
	listFresh = 5 * time.Minute  // as long as a list is not asked for anew
	listRetry = 10 * time.Second // as long as one that failed is not
	maxList   = 4 << 20          // bytes of a page
	maxPages  = 20
	maxModels = 10000 // of a provider
)

// A listReader reads pages of a list of models.
type listReader interface {
	// DecodeModels returns what a page lists, and the name of the next one, "" behind the last.
	DecodeModels(body []byte) (models []dialect.Model, next string, err error)
}

// A lister reads and writes lists of models, a dialect each.
type lister interface {
	listReader
	EncodeModels(models []dialect.Model) []byte
	EncodeModel(m *dialect.Model) []byte
}

// A cataloguer is a vendor that says which models it has.
type cataloguer interface {
	// catalogue returns path and query of a page of the list, "" being the first, and
	// who reads it.
	catalogue(p *Provider, page string) (target string, l listReader)
}

// isModels reports whether r asks for the list of models, or for one of them, which clients
// of each dialect do at the same paths.
func (op *operation) isModels(r *http.Request, path string) bool {
	list, l := "/v1/models", openaiModels
	for _, version := range []string{"/v1beta", "/v1alpha"} {
		if strings.Contains(path, version+"/models") {
			list, l = version+"/models", gemini.Models{}
		}
	}
	before, name, _ := strings.Cut(path+"/", list+"/")
	name = strings.TrimSuffix(name, "/")
	switch {
	case len(before) == len(path)+1: // it is not there
		return false
	case name != "" && r.Method != http.MethodGet:
		return false
	case r.Header["X-Goog-Api-Key"] != nil || r.Header["X-Goog-Api-Client"] != nil:
		l = gemini.Models{}
	case r.Header["Anthropic-Version"] != nil:
		l = anthropic.Models{}
	}
	op.model, op.list = name, l
	switch l.(type) {
	case gemini.Models:
		op.form = generate
	case anthropic.Models:
		op.form = messages
	}
	return true
}

// openaiModels is how clients of OpenAI read the list.
var openaiModels lister = openai.Models{}

// serveModels answers with the models that clients may ask for, or with one of them.
func (b *Backend) serveModels(w http.ResponseWriter, r *http.Request, op *operation) error {
	models, missing := b.models(r)
	h := w.Header()
	if len(missing) > 0 {
		h["X-Mcpgw-Unlisted"] = []string{strings.Join(missing, ", ")}
	}
	body := []byte(nil)
	if op.model == "" {
		body = op.list.EncodeModels(models)
	} else {
		i := slices.IndexFunc(models, func(m dialect.Model) bool { return m.ID == op.model })
		if i < 0 {
			e := &dialect.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "model_not_found", Param: "model",
				Message: "no provider lists this model: GET the list for those that there are"}
			return fault.Wrap(fault.NotFound, e, "no provider lists the model")
		}
		body = op.list.EncodeModel(&models[i])
	}
	h["Content-Type"] = []string{"application/json"}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that is gone needs no list
	return nil
}

// models returns the models that clients may ask for, each once, and the labels of the
// providers whose list is not complete. A name that several providers have goes to the first,
// and where models are routed each of them is there as PROVIDER/MODEL, too.
func (b *Backend) models(r *http.Request) (all []dialect.Model, missing []string) {
	type answer struct {
		provider *Provider
		models   []dialect.Model
		err      error
	}
	var answers []*answer
	var asking sync.WaitGroup
	for p := range b.providers() {
		if p.permitted(r.Context()) != nil {
			continue
		}
		a := &answer{provider: p}
		answers = append(answers, a)
		asking.Go(func() { a.models, a.err = b.modelsOf(p, r) })
	}
	asking.Wait()
	holders := map[string]int{}
	for _, a := range answers {
		a.models = slices.DeleteFunc(slices.Clone(a.models), func(m dialect.Model) bool { return !b.reaches(a.provider, m.ID) })
		if a.err != nil {
			missing = append(missing, a.provider.label())
		}
		for _, m := range a.models {
			holders[m.ID]++
		}
	}
	seen := map[string]bool{}
	add := func(m dialect.Model) {
		if !seen[m.ID] {
			seen[m.ID] = true
			all = append(all, m)
		}
	}
	for _, a := range answers {
		for _, m := range a.models {
			add(m)
			if b.routed && holders[m.ID] > 1 && a.provider.Name != "" {
				m.ID = a.provider.Name + "/" + m.ID
				add(m)
			}
		}
	}
	return all, missing
}

// reaches reports whether a request for the model is one that the provider may be asked.
func (b *Backend) reaches(p *Provider, model string) bool {
	groups, _, err := b.choose(model)
	return err == nil && slices.ContainsFunc(groups, func(g []*Provider) bool { return slices.Contains(g, p) })
}

// modelsOf returns the models of one provider: the one that it is always asked for, those that
// its configuration names, and else those that it lists itself.
func (b *Backend) modelsOf(p *Provider, r *http.Request) ([]dialect.Model, error) {
	if p.Model != "" && len(p.Models) == 0 {
		return []dialect.Model{{ID: p.Model, Owner: p.Vendor.String()}}, nil
	}
	var named []dialect.Model
	for _, m := range p.Models {
		if !strings.Contains(m, "*") {
			named = append(named, dialect.Model{ID: m, Owner: p.Vendor.String()})
		}
	}
	v, ok := vendorOf(p.Vendor).(cataloguer)
	if len(named) == len(p.Models) && len(named) > 0 || p.Model != "" || !ok || p.Path != "" {
		return named, nil
	}
	if p.Fault != nil {
		return named, p.Fault
	}
	listed, err := b.listed(p, v, r)
	return append(named, listed...), err
}

// A catalogue is the list of a provider's models, kept for a while.
type catalogue struct {
	mu     sync.Mutex // held while it is asked for
	models []dialect.Model
	asked  time.Time
	err    error
}

// listed returns what the provider lists. When that fails it is the last list that there was,
// and the error.
func (b *Backend) listed(p *Provider, v cataloguer, r *http.Request) ([]dialect.Model, error) {
	if p.Credential.Passthrough { // what one client may use is not for the next
		return b.list(r.Context(), p, v, r.Header)
	}
	c := &p.Health.catalogue
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := listFresh
	if c.err != nil {
		fresh = listRetry
	}
	if !c.asked.IsZero() && time.Since(c.asked) < fresh {
		return c.models, c.err
	}
	models, err := b.list(context.WithoutCancel(r.Context()), p, v, nil) // others wait for it, too
	c.asked, c.err = time.Now(), err
	if err != nil {
		b.cfg.Logger.Warn("LLM provider does not list its models", "backend", b.cfg.Name, "provider", p.label(), "reason", err)
		return c.models, err
	}
	c.models = models
	return models, nil
}

// list asks the provider for all pages of its list.
func (b *Backend) list(ctx context.Context, p *Provider, v cataloguer, header http.Header) (all []dialect.Model, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	if p.Catalogue != nil {
		p = p.Catalogue
	}
	a := &attempt{query: &query{Backend: b, ctx: ctx, header: header}, provider: p, vendor: vendorOf(p.Vendor)}
	page := ""
	for range maxPages {
		target, l := v.catalogue(p, page)
		h := http.Header{"Accept": {"application/json"}, "User-Agent": {"mcpgw"}}
		a.vendor.headers(a, h)
		r, err := a.outgoing(ctx, http.MethodGet, target, h)
		if err != nil {
			return nil, err
		}
		body, err := fetch(p, r)
		if err != nil {
			return nil, err
		}
		models, more, err := l.DecodeModels(body)
		if err != nil {
			return nil, fmt.Errorf("the list of models: %w", err)
		}
		if all = append(all, models...); len(all) > maxModels {
			return nil, fmt.Errorf("the provider lists more than %d models", maxModels)
		}
		if more == "" {
			return all, nil
		}
		page = more
	}
	return nil, fmt.Errorf("the list of models has more than %d pages", maxPages)
}

// fetch returns the body of an answer of the provider.
func fetch(p *Provider, r *http.Request) ([]byte, error) {
	resp, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all that can be learned was learned by reading
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the provider answered %d", resp.StatusCode)
	}
	body, err := readAll(resp.Body, maxList)
	if errors.Is(err, errTooLarge) {
		err = errors.New("the list of models is too large")
	}
	return body, err
}
