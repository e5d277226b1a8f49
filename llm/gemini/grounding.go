package gemini

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// What a candidate says of its sources: of those that a search found (GroundingMetadata), and of
// those that it repeats (CitationMetadata). Places are bytes of its text.
type (
	grounding struct {
		Chunks   []groundingChunk   `json:"groundingChunks,omitzero"`
		Supports []groundingSupport `json:"groundingSupports,omitzero"`
		Rest     jsontext.Value     `json:",embed"`
	}
	groundingChunk struct {
		Web  *webChunk      `json:"web,omitzero"`
		Rest jsontext.Value `json:",embed"`
	}
	webChunk struct {
		URI    string          `json:"uri"`
		Title  string          `json:"title,omitzero"`
		Domain dialect.Ignored `json:"domain,omitzero"` // which the title is
		Rest   jsontext.Value  `json:",embed"`
	}
	groundingSupport struct {
		Segment *segment       `json:"segment,omitzero"`
		Chunks  []int          `json:"groundingChunkIndices"`
		Rest    jsontext.Value `json:",embed"`
	}
	segment struct {
		Start int             `json:"startIndex,omitzero"`
		End   int             `json:"endIndex,omitzero"`
		Part  dialect.Ignored `json:"partIndex,omitzero"`
		Text  string          `json:"text,omitzero"` // which the answer has
	}
	citing struct {
		Citations []source       `json:"citations,omitzero"`
		Sources   []source       `json:"citationSources,omitzero"` // as the Gemini API names them
		Rest      jsontext.Value `json:",embed"`
	}
	source struct {
		Start int            `json:"startIndex,omitzero"`
		End   int            `json:"endIndex,omitzero"`
		URI   string         `json:"uri,omitzero"`
		Title string         `json:"title,omitzero"`
		Rest  jsontext.Value `json:",embed"`
	}
)

// citations returns the sources of a candidate whose text is text, with places in characters of
// it. lost is told of those that have no address.
func (c *candidate) citations(text string, lost func(at string)) (out []dialect.Citation) {
	path := candidatePath(c.Index)
	add := func(at, uri, title string, start, end int, ranged ...string) {
		if uri == "" {
			lost(at)
			return
		}
		c := dialect.Citation{Path: at, URL: uri, Title: title, Start: characters(text, start), End: characters(text, end)}
		copy(c.RangeAt[:], ranged)
		out = append(out, c)
	}
	if g := c.Grounding; g != nil {
		at := path + ".groundingMetadata"
		dialect.Leftover(g.Rest, at, lost)
		cited := make([]bool, len(g.Chunks))
		for i := range g.Supports {
			s := &g.Supports[i]
			dialect.Leftover(s.Rest, at+".groundingSupports["+strconv.Itoa(i)+"]", lost)
			for _, n := range s.Chunks {
				if n < 0 || n >= len(g.Chunks) || g.Chunks[n].Web == nil || s.Segment == nil {
					lost(at + ".groundingSupports[" + strconv.Itoa(i) + "]")
					continue
				}
				cited[n] = true
				add(chunkPath(at, n), g.Chunks[n].Web.URI, g.Chunks[n].Web.Title, s.Segment.Start, s.Segment.End, at+".groundingSupports["+strconv.Itoa(i)+"].segment")
			}
		}
		for i := range g.Chunks {
			dialect.Leftover(g.Chunks[i].Rest, chunkPath(at, i), lost)
			if web := g.Chunks[i].Web; web != nil {
				dialect.Leftover(web.Rest, chunkPath(at, i)+".web", lost)
				if !cited[i] {
					add(chunkPath(at, i), web.URI, web.Title, 0, 0)
				}
			}
		}
	}
	if m := c.Citing; m != nil {
		at := path + ".citationMetadata"
		dialect.Leftover(m.Rest, at, lost)
		for i, s := range append(slices.Clip(m.Citations), m.Sources...) {
			place := at + ".citations[" + strconv.Itoa(i) + "]"
			if i >= len(m.Citations) {
				place = at + ".citationSources[" + strconv.Itoa(i-len(m.Citations)) + "]"
			}
			dialect.Leftover(s.Rest, place, lost)
			add(place, s.URI, s.Title, s.Start, s.End, place+".startIndex", place+".endIndex")
		}
	}
	return out
}

func chunkPath(at string, i int) string { return at + ".groundingChunks[" + strconv.Itoa(i) + "]" }

// characters returns how many characters the first n bytes of a text are.
func characters(text string, n int) int {
	return utf8.RuneCountInString(text[:min(max(n, 0), len(text))])
}

// bytesOf is the inverse of characters.
func bytesOf(text string, n int) int {
	at := 0
	for ; n > 0 && at < len(text); n-- {
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
	return at
}

// A sources collects what the texts of one candidate cite.
type sources struct {
	text   strings.Builder // until the open block
	block  strings.Builder // the open block
	ground *grounding
}

// cite adds a source of the open block.
func (s *sources) cite(c *dialect.Citation, o *dialect.WriterOptions) {
	if c.URL == "" {
		o.Lose(c.Path)
		return
	}
	o.LoseQuote(c)
	if s.ground == nil {
		s.ground = &grounding{}
	}
	n := slices.IndexFunc(s.ground.Chunks, func(g groundingChunk) bool { return g.Web.URI == c.URL && g.Web.Title == c.Title })
	if n < 0 {
		n = len(s.ground.Chunks)
		s.ground.Chunks = append(s.ground.Chunks, groundingChunk{Web: &webChunk{URI: c.URL, Title: c.Title}})
	}
	block := s.block.String()
	start, end := c.In(utf8.RuneCountInString(block), 0)
	from, to := bytesOf(block, start), bytesOf(block, end)
	s.ground.Supports = append(s.ground.Supports, groundingSupport{
		Segment: &segment{Start: s.text.Len() + from, End: s.text.Len() + to, Text: block[from:to]}, Chunks: []int{n},
	})
}

// end ends the open block.
func (s *sources) end() {
	s.text.WriteString(s.block.String())
	s.block.Reset()
}

// The log probabilities of tokens: of those that were chosen, and of the most probable ones
// at each place.
type (
	logProbs struct {
		Chosen []token         `json:"chosenCandidates,omitzero"`
		Top    []topTokens     `json:"topCandidates,omitzero"`
		Sum    dialect.Ignored `json:"logProbabilitySum,omitzero"`
		Rest   jsontext.Value  `json:",embed"`
	}
	topTokens struct {
		Candidates []token `json:"candidates"`
	}
	token struct {
		Token string          `json:"token"`
		ID    dialect.Ignored `json:"tokenId,omitzero"`
		Log   jsontext.Value  `json:"logProbability"`
	}
	// A chatToken is how chat completions write one.
	chatToken struct {
		Token   string         `json:"token"`
		LogProb jsontext.Value `json:"logprob"`
		Bytes   []int          `json:"bytes"`
		Top     []chatToken    `json:"top_logprobs,omitzero"`
	}
)

// canonical returns the log probabilities as chat completions write them, nil without any.
func (l *logProbs) canonical() jsontext.Value {
	if l == nil || len(l.Chosen) == 0 {
		return nil
	}
	out := make([]chatToken, 0, len(l.Chosen))
	for i, t := range l.Chosen {
		c := chatTokenOf(t)
		c.Top = []chatToken{}
		if i < len(l.Top) {
			for _, t := range l.Top[i].Candidates {
				c.Top = append(c.Top, chatTokenOf(t))
			}
		}
		out = append(out, c)
	}
	v, err := json.Marshal(out)
	if err != nil {
		return nil // strings and checked JSON: they can be written
	}
	return v
}

func chatTokenOf(t token) chatToken {
	c := chatToken{Token: t.Token, LogProb: t.Log, Bytes: make([]int, 0, len(t.Token))}
	if c.LogProb == nil {
		c.LogProb = jsontext.Value("0") // which Google leaves out
	}
	for _, b := range []byte(t.Token) {
		c.Bytes = append(c.Bytes, int(b))
	}
	return c
}

// logProbsOf is the inverse of canonical.
func logProbsOf(v jsontext.Value) *logProbs {
	var list []chatToken
	if v == nil || json.Unmarshal(v, &list) != nil || len(list) == 0 {
		return nil
	}
	out := &logProbs{}
	for _, c := range list {
		out.Chosen = append(out.Chosen, token{Token: c.Token, Log: c.LogProb})
		top := topTokens{Candidates: []token{}}
		for _, t := range c.Top {
			top.Candidates = append(top.Candidates, token{Token: t.Token, Log: t.LogProb})
		}
		out.Top = append(out.Top, top)
	}
	return out
}
