package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// The limits of one file of YAML.
const (
	maxFile     = 4 << 20 // bytes
	maxDepth    = 100     // levels of nesting
	maxAliases  = 100     // aliases
	maxExpanded = 100_000 // values that aliases stand for
	maxKey      = 1024    // bytes of a key
	maxProblems = 1000    // problems, of all files
)

// A document is one document of a file.
type document struct {
	src    *source
	root   *yaml.Node
	offset int // of its line numbers
}

// parseFile returns the documents of a file. What is not YAML is reported, and the
// documents after it are read all the same.
func parseFile(src *source, report *Report) []document {
	if p, ok := checkText(src); !ok {
		report.Add(p)
		return nil
	}
	var docs []document
	if roots, err := parseChunk(src.text); err == nil {
		for _, root := range roots {
			docs = append(docs, document{src: src, root: root})
		}
		return docs
	}
	for _, chunk := range src.chunks() { // one by one, since not all are YAML
		text := src.text[src.starts[chunk.from-1]:]
		if chunk.to <= len(src.starts) {
			text = src.text[src.starts[chunk.from-1]:src.starts[chunk.to-1]]
		}
		roots, err := parseChunk(text)
		for _, root := range roots {
			docs = append(docs, document{src: src, root: root, offset: chunk.from - 1})
		}
		if err != nil {
			src.unparsed = append(src.unparsed, chunk)
			report.Add(syntaxProblem(src, chunk.from-1, err))
			if len(report.Problems) > maxProblems {
				return docs
			}
		}
	}
	return docs
}

// parseChunk returns the documents of text.
func parseChunk(text string) ([]*yaml.Node, error) {
	limits := loaderlimits.New(loaderlimits.DepthValue(maxDepth), loaderlimits.AliasNone())
	loader, err := yaml.NewLoader(strings.NewReader(text), yaml.WithPlugin(limits), yaml.WithUniqueKeys(false))
	if err != nil {
		return nil, err
	}
	var roots []*yaml.Node
	for {
		root := &yaml.Node{}
		if err := loader.Load(root); errors.Is(err, io.EOF) {
			return roots, nil
		} else if err != nil {
			return roots, err
		}
		roots = append(roots, root)
	}
}

// chunks returns the lines of each document, or of several. YAML has it that a
// line that begins with --- always begins a document, even within quotes.
func (s *source) chunks() []span {
	var out []span
	from := 1
	directives := true // only directives and comments since from
	for n := 1; n <= len(s.starts); n++ {
		line := s.line(n)
		if rest, ok := strings.CutPrefix(line, "---"); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
			if !directives {
				out = append(out, span{from, n})
				from = n
			}
			directives = false
			continue
		}
		if line != "" && line[0] != '%' && line[0] != '#' {
			directives = false
		}
	}
	return append(out, span{from, len(s.starts) + 1})
}

// checkText reports a file that is no text.
func checkText(src *source) (Problem, bool) {
	for n := range src.starts {
		column := 0
		for i, r := range src.line(n + 1) {
			column++
			what := ""
			switch {
			case r == utf8.RuneError && !strings.HasPrefix(src.line(n + 1)[i:], "\uFFFD"):
				what = "a byte that is not UTF-8"
			case r < ' ' && r != '\t', r == 0x7F, r >= 0x80 && r < 0xA0, r == 0xFFFE, r == 0xFFFF, r == 0xFEFF:
				what = fmt.Sprintf("the character U+%04X, which can't stand in a file as it is", r)
			}
			if what != "" {
				return Problem{
					Class: Invalid, Code: CodeEncoding, Position: src.position(n+1, column, 1),
					Message: "the file is not text: it has " + what, Help: "save the file as UTF-8",
				}, false
			}
		}
	}
	return Problem{}, true
}

// syntaxProblem turns the parser's error into what its author wants to know.
func syntaxProblem(src *source, offset int, err error) Problem {
	p := Problem{Class: Invalid, Code: CodeSyntax, Message: "this is not YAML"}
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		p.Position = src.rest(offset+1, 1)
		return p
	}
	line, column := e.Mark.Line+offset, e.Mark.Column
	began := place{e.ContextMark.Line + offset, e.ContextMark.Column}
	if e.Mark.Line == 0 {
		line, column = offset+1, 1
	}
	at := []rune(src.line(line))
	var char rune
	if column >= 1 && column <= len(at) {
		char = at[column-1]
	}
	p.Position = src.rest(line, column)
	hasContext := e.ContextMark.Line > 0
	related := func(message string) {
		if hasContext && began.line != line {
			p.Related = append(p.Related, Related{src.position(began.line, began.column, 1), message})
		}
	}
	switch {
	case strings.Contains(e.Message, "max depth"):
		p.Code, p.Message = CodeDepth, fmt.Sprintf("values are nested more than %d levels deep", maxDepth)
		p.Position = src.position(line, column, 1)

	case strings.Contains(e.Message, "unknown anchor"):
		p.Code, p.Message, p.Label = CodeAlias, "this alias has no anchor", "if it is meant as text, put it in quotes"
		p.Position = src.word(line, column)

	case strings.Contains(e.Message, "tab") || char == '\t':
		p.Code, p.Message, p.Label = CodeTab, "a tab can't indent a line", "use spaces"
		p.Position = src.tabs(line, column)

	case strings.Contains(e.Message, "cannot start any token"):
		p.Message, p.Label = fmt.Sprintf("a value can't begin with %c", char), "put it in quotes"

	case strings.Contains(e.Message, "unknown escape"):
		p.Message = "this is no escape sequence"
		p.Position = src.position(line, column, 2)
		p.Label = `in double quotes, write \\ for a backslash; or use single quotes`

	case strings.Contains(e.ContextMsg, "quoted scalar") && hasContext:
		p.Message, p.Label = "this quote is never closed", "the text that begins here has no end"
		p.Position = src.rest(began.line, began.column)

	case strings.Contains(e.Message, "mapping values are not allowed"):
		mappingNotAllowed(src, line, column, at, &p)

	case strings.Contains(e.Message, "could not find expected ':'") && hasContext:
		p.Message, p.Label = "this line has no `:` after its key", "write key: value"
		p.Position = src.rest(began.line, began.column)

	case strings.Contains(e.Message, "expected ',' or ']'"), strings.Contains(e.Message, "expected ',' or '}'"):
		open := "[...]"
		if strings.Contains(e.Message, "}") {
			open = "{...}"
		}
		p.Message = "a " + open + " is not closed, or a comma is missing"
		p.Label = "unexpected here"
		related("it begins here")

	case strings.Contains(e.Message, "expected key"), strings.Contains(e.Message, "'-' indicator"):
		what := "mapping"
		if strings.Contains(e.Message, "'-' indicator") {
			what = "list"
		}
		if strings.TrimSpace(string(at[:min(len(at), max(0, column-1))])) != "" {
			p.Message, p.Label = "a value is at its end here, and more text follows", "is a quote closed too early?"
			break
		}
		p.Message = "wrong indentation: this line belongs to nothing above it"
		if hasContext {
			p.Label = fmt.Sprintf("the %s around it begins in column %d", what, began.column)
			related("the " + what + " begins here")
		}

	case strings.Contains(e.Message, "expected node content"):
		p.Message = "a value is missing here, or a bracket above is not closed"

	default:
		p.Message = "this is not YAML: " + plain(e.Message)
		if e.ContextMsg != "" {
			p.Message += " " + plain(e.ContextMsg)
		}
	}
	return p
}

// plain returns the parser's message without what might be text of the file.
func plain(message string) string {
	before, _, _ := strings.Cut(message, "'")
	before, _, _ = strings.Cut(before, "\"")
	return strings.TrimSpace(before)
}

// glued is a key whose colon has no space after it.
var glued = regexp.MustCompile(`^(- )*[A-Za-z0-9_.-]+:[^\s:/]+$`)

// mappingNotAllowed explains a colon that can't stand where it does.
func mappingNotAllowed(src *source, line, column int, text []rune, p *Problem) {
	before := string(text[:min(len(text), max(0, column-1))])
	if strings.Contains(before, ": ") || strings.Contains(before, ":\t") {
		p.Message, p.Label = "a second `: ` in one line", "put the value in quotes"
		p.Position = src.position(line, column, 1)
		return
	}
	start := len([]rune(before)) - len([]rune(strings.TrimLeft(before, " ")))
	p.Position = src.rest(line, start+1)
	for n := line - 1; n >= 1; n-- {
		above := src.line(n)
		text := strings.TrimSpace(above)
		if text == "" || text[0] == '#' {
			continue
		}
		indent := len([]rune(above)) - len([]rune(strings.TrimLeft(above, " ")))
		at := src.rest(n, 1)
		switch {
		case glued.MatchString(text):
			p.Message, p.Label, p.Position = "there is no space after the colon", "write key: value", at
		case !strings.Contains(text, ":") && (indent >= start || !strings.HasPrefix(text, "- ")):
			p.Message, p.Label, p.Position = "this line has no `:` after its key", "write key: value", at
		default:
			p.Message, p.Label = "wrong indentation", "this line is indented like a part of the value above it"
			p.Related = []Related{{at, "this value has no further lines"}}
		}
		return
	}
	p.Message = "wrong indentation"
}

// word returns the position of the word at a place.
func (s *source) word(line, column int) Position {
	p := s.position(line, column, 0)
	text := []rune(s.line(p.Line))
	end := p.Column - 1
	for end < len(text) && !strings.ContainsRune(" \t,]}", text[end]) {
		end++
	}
	return s.position(p.Line, p.Column, max(1, end-p.Column+1))
}

// tabs returns the position of the tabs that a line begins with, or of the place
// itself.
func (s *source) tabs(line, column int) Position {
	p := s.position(line, column, 1)
	text := []rune(s.line(p.Line))
	for i, r := range text {
		if r == '\t' {
			end := i
			for end < len(text) && text[end] == '\t' {
				end++
			}
			return s.position(p.Line, i+1, end-i)
		}
		if r != ' ' {
			break
		}
	}
	return p
}
