package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// Options say how [Render] writes. The zero Options are for a file or pipe.
type Options struct {
	Color bool // with ANSI colours
	Max   int  // the most problems to show; 0 means 20
}

// The widest excerpt, in characters.
const maxExcerpt = 160

// Render writes a report for people: each problem with its place, an excerpt in
// which secrets are masked, what is wrong and what to do; errors first. It ends
// with a line that counts them, and writes nothing for a report without
// problems. s may be nil; r is not changed. The error is w's.
func Render(w io.Writer, r *Report, s *Sources, o Options) error {
	if r == nil || len(r.Problems) == 0 {
		return nil
	}
	sorted := Report{Problems: slices.Clone(r.Problems)}
	sorted.Sort()
	p := &printer{w: w, sources: s, color: o.Color}
	limit := cmp.Or(o.Max, 20)
	for i := range sorted.Problems {
		if i == limit {
			p.printf("... and %d more\n\n", len(sorted.Problems)-limit)
			break
		}
		p.problem(&sorted.Problems[i])
	}
	p.printf("%s\n", sorted.Summary())
	return p.err
}

// The colours of the parts of a rendered problem.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	blue   = "\x1b[34m"
	reset  = "\x1b[0m"
)

// A printer writes problems, and keeps the first error.
type printer struct {
	w       io.Writer
	sources *Sources
	color   bool
	err     error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// in returns text in a colour.
func (p *printer) in(color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return color + text + reset
}

// problem writes one problem and an empty line.
func (p *printer) problem(b *Problem) {
	color := red
	if b.Class != Invalid {
		color = yellow
	}
	p.printf("%s%s\n", p.in(color, fmt.Sprintf("%s[%s]", b.Class, b.Code)), p.in(bold, ": "+printable(b.Message)))
	gutter := len(fmt.Sprint(b.Position.Line))
	for _, r := range b.Related {
		gutter = max(gutter, len(fmt.Sprint(r.Position.Line)))
	}
	margin := strings.Repeat(" ", gutter)
	p.excerpt(gutter, "┌─", b.Position, b.Label, color)
	for _, r := range b.Related {
		p.excerpt(gutter, "├─", r.Position, r.Message, blue)
	}
	if b.Object != (ObjectRef{}) {
		in := printable(b.Object.String())
		if path := b.Path; path != "" {
			if b.Code == CodeUnknownField {
				path = path[:max(0, strings.LastIndexAny(path, ".["))]
			}
			if path != "" {
				in += " → " + printable(path)
			}
		}
		p.printf("%s%s in %s\n", margin, p.in(blue, "="), in)
	}
	if b.Help != "" {
		p.printf("%s%s help: %s\n", margin, p.in(blue, "="), printable(b.Help))
	}
	p.printf("\n")
}

// excerpt writes the line of a position, with a caret under it.
func (p *printer) excerpt(gutter int, corner string, at Position, label, color string) {
	if at.IsZero() {
		if label != "" {
			p.printf("%s%s %s\n", strings.Repeat(" ", gutter), p.in(blue, "="), printable(label))
		}
		return
	}
	margin := strings.Repeat(" ", gutter)
	p.printf("%s%s %s\n", margin, p.in(blue, corner), printable(at.String()))
	src := p.sources.file(at.File)
	if src == nil || at.Line == 0 {
		if label != "" {
			p.printf("%s%s %s\n", margin, p.in(blue, "="), printable(label))
		}
		return
	}
	text, from, length := src.excerpt(at)
	bar := p.in(blue, "│")
	p.printf("%s%s\n", margin, bar)
	p.printf("%s%s %s\n", p.in(blue, fmt.Sprintf("%*d", gutter, at.Line)), bar, strings.TrimRight(text, " "))
	caret := strings.Repeat(" ", from) + p.in(color, strings.TrimRight(strings.Repeat("^", max(1, length))+" "+printable(label), " "))
	p.printf("%s%s %s\n", margin, bar, caret)
}

// excerpt returns the line of a position as it may be shown, and where in it the
// position is, in characters from 0.
func (s *source) excerpt(at Position) (text string, from, length int) {
	line := []rune(s.line(at.Line))
	start, end := at.Column-1, at.Column-1+max(1, at.Length)
	var out []rune
	from, to := -1, -1
	mark := func(i int) {
		if i >= start && from < 0 {
			from = len(out)
		}
		if i >= end && to < 0 {
			to = len(out)
		}
	}
	masks := s.secretSpans(at.Line)
	for i := 0; i < len(line); {
		if len(masks) > 0 && masks[0].from <= i {
			if start < masks[0].to && from < 0 { // the caret goes under the whole mask
				from = len(out)
			}
			out = append(out, []rune(redacted)...)
			i, masks = masks[0].to, masks[1:]
			if end <= i && to < 0 && from >= 0 {
				to = len(out)
			}
			continue
		}
		mark(i)
		switch r := line[i]; {
		case r == '\t':
			out = append(out, '→')
		case !unicode.IsPrint(r):
			out = append(out, '�')
		default:
			out = append(out, r)
		}
		i++
	}
	if from < 0 {
		from = len(out)
	}
	if to < from {
		to = max(len(out), from+1)
	}
	return window(out, from, to)
}

// window cuts a long line to what is around the part from a to b.
func window(line []rune, a, b int) (text string, from, length int) {
	if len(line) <= maxExcerpt {
		return string(line), a, b - a
	}
	first := max(0, a-maxExcerpt/2)
	last := min(len(line), first+maxExcerpt)
	out := line[first:last]
	from = a - first
	length = min(b, last) - a
	text = string(out)
	if first > 0 {
		text, from = "…"+text, from+1
	}
	if last < len(line) {
		text += "…"
	}
	return text, from, length
}

// printable returns text without characters that could do something to a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, text)
}
