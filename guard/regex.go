package guard

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// An Action says what a match does.
type Action uint8

// The actions. The zero value is Mask.
const (
	Mask   Action = iota // the match is replaced by a token such as <SSN>
	Reject               // nothing passes
)

// A Pattern is a regular expression in RE2 syntax.
type Pattern struct {
	Expression string
	Name       string // the mask token is <Name>; "" is masked
}

// Limits of a [Regex].
const (
	// MaxHeld is how much of a text a [Stream] holds for one recogniser, in bytes. What could
	// be a match and is longer is masked whole.
	MaxHeld = 4 << 10
	// maxExpression bounds the length of an expression, in bytes.
	maxExpression = 4 << 10
)

// A Regex is a list of recognisers that are applied in order, each to what the one before has
// made of the text. It is immutable and safe for concurrent use.
type Regex struct {
	recognizers []*recognizer
	action      Action
}

// A recognizer finds one kind of thing.
type recognizer struct {
	token    string
	patterns []*pattern
	tokens   *pattern // the tokens of all recognisers of the Regex: what is in one was masked before
	phones   bool     // what patterns find are candidates, see phones.go
}

// A pattern is a compiled expression, for whole texts and for streams.
type pattern struct {
	whole *regexp.Regexp
	prog  *syntax.Prog
	first firstBytes
}

// NewRegex compiles the patterns and the builtins, which are applied in this order. Its
// error names the one that is wrong and can be shown to its author.
func NewRegex(action Action, patterns []Pattern, builtins []Builtin) (*Regex, error) {
	x := &Regex{action: action}
	for i, p := range patterns {
		compiled, err := compile(p.Expression)
		if err != nil {
			return nil, fmt.Errorf("matches[%d].pattern: %w", i, err)
		}
		x.recognizers = append(x.recognizers, &recognizer{token: "<" + cmp.Or(p.Name, "masked") + ">", patterns: []*pattern{compiled}})
	}
	for i, b := range builtins {
		r, err := b.recognizer()
		if err != nil {
			return nil, fmt.Errorf("builtins[%d]: %w", i, err)
		}
		x.recognizers = append(x.recognizers, r)
	}
	var quoted []string
	for _, r := range x.recognizers {
		quoted = append(quoted, regexp.QuoteMeta(r.token))
	}
	slices.SortFunc(quoted, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	tokens, err := compile(strings.Join(slices.Compact(quoted), "|"))
	if err != nil {
		return nil, fmt.Errorf("the names of the masks: %w", err)
	}
	for _, r := range x.recognizers {
		r.tokens = tokens
	}
	return x, nil
}

func compile(expression string) (*pattern, error) {
	if len(expression) > maxExpression && !strings.HasPrefix(expression, "<") {
		return nil, fmt.Errorf("is longer than %d bytes", maxExpression)
	}
	whole, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{whole: whole, prog: prog, first: firstOf(prog)}, nil
}

// Action returns what a match does.
func (x *Regex) Action() Action { return x.action }

// Mask returns the text with each match replaced by its token, and whether there was one. Of
// matches of one recogniser that overlap one token is made.
func (x *Regex) Mask(text string) (masked string, found bool) {
	for _, r := range x.recognizers {
		if out, ok := r.mask(text); ok {
			text, found = out, true
		}
	}
	return text, found
}

// Check masks a text, or says that the Regex rejects it.
func (x *Regex) Check(text string) (masked string, rejected bool) {
	masked, found := x.Mask(text)
	return masked, found && x.action == Reject
}

// messages masks the texts of messages. The slice is copied when one changes.
func (x *Regex) messages(in []Message) (out []Message, rejected bool) {
	out = in
	for i, m := range in {
		masked, found := x.Mask(m.Text)
		switch {
		case !found:
			continue
		case x.action == Reject:
			return in, true
		case &out[0] == &in[0]:
			out = slices.Clone(in)
		}
		out[i].Text = masked
	}
	return out, false
}

// A span is a part of a text.
type span struct{ start, end int }

// mask replaces what the recogniser finds in a whole text.
func (r *recognizer) mask(text string) (string, bool) {
	spans := r.find(text)
	if len(spans) == 0 {
		return text, false
	}
	var b strings.Builder
	at := 0
	for _, s := range spans {
		b.WriteString(text[at:s.start])
		b.WriteString(r.token)
		at = s.end
	}
	b.WriteString(text[at:])
	return b.String(), true
}

// find returns what is to be masked, merged and in order.
func (r *recognizer) find(text string) []span {
	var spans []span
	if r.phones {
		spans = phonesIn(text)
	} else {
		for _, p := range r.patterns {
			for _, m := range p.whole.FindAllStringIndex(text, -1) {
				if m[0] < m[1] {
					spans = append(spans, span{m[0], m[1]})
				}
			}
		}
	}
	if len(spans) == 0 {
		return nil
	}
	if strings.IndexByte(text, '<') >= 0 {
		var tokens []span
		for _, m := range r.tokens.whole.FindAllStringIndex(text, -1) {
			tokens = append(tokens, span{m[0], m[1]})
		}
		spans = outside(spans, tokens)
	}
	return merge(spans)
}

// outside returns the spans that are not within a token.
func outside(spans, tokens []span) []span {
	return slices.DeleteFunc(spans, func(s span) bool {
		return slices.ContainsFunc(tokens, func(t span) bool { return t.start <= s.start && s.end <= t.end })
	})
}

// merge sorts spans and makes one of those that overlap.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.start-b.start, a.end-b.end) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.start < out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
			continue
		}
		out = append(out, s)
	}
	return out
}
