package config

import (
	"fmt"
	"math"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// A builder turns a document into the values that JSON knows, and notes where each
// was written.
type builder struct {
	doc      document
	report   *Report
	aliases  *int // in the file
	expanded int  // values made of aliases
	within   int  // aliases that are being expanded
	active   map[*yaml.Node]bool
	stopped  bool // a limit was reached, and reported
}

// build returns the value of a document, and where it was written. aliases counts
// those of the file. It reports false when the document is over a limit: then the
// value is not complete.
func build(doc document, aliases *int, report *Report) (any, *node, bool) {
	b := &builder{doc: doc, report: report, aliases: aliases, active: map[*yaml.Node]bool{}}
	if doc.root.Kind != yaml.DocumentNode || len(doc.root.Content) == 0 {
		return nil, &node{scalar: scalar{line: doc.offset + 1, column: 1}, kind: yaml.ScalarNode}, true
	}
	v, n := b.value(doc.root.Content[0], 0)
	return v, n, !b.stopped
}

// at returns the place of n.
func (b *builder) at(n *yaml.Node) place { return place{n.Line + b.doc.offset, n.Column} }

// problem reports a mistake at the place of n.
func (b *builder) problem(n *yaml.Node, code, message, label string) *Problem {
	at := b.at(n)
	length := 1
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		length = b.doc.src.extent(scalar{at.line, at.column, n.Style, n.Value}).Length
	}
	b.report.Add(Problem{
		Class: Invalid, Code: code, Position: b.doc.src.position(at.line, at.column, length), Message: message, Label: label,
	})
	return &b.report.Problems[len(b.report.Problems)-1]
}

// value returns what n holds.
func (b *builder) value(n *yaml.Node, depth int) (any, *node) {
	at := b.at(n)
	out := &node{kind: n.Kind, scalar: scalar{line: at.line, column: at.column, style: n.Style}}
	if b.stopped {
		return nil, out
	}
	if b.within > 0 {
		if b.expanded++; b.expanded > maxExpanded {
			b.stopped = true
			b.problem(n, CodeAliasLimit, fmt.Sprintf("aliases stand for more than %d values", maxExpanded), "repeated too often")
			return nil, out
		}
	}
	if depth >= maxDepth && n.Kind != yaml.ScalarNode {
		b.stopped = true
		b.problem(n, CodeDepth, fmt.Sprintf("values are nested more than %d levels deep", maxDepth), "")
		return nil, out
	}
	if n.Anchor != "" && !b.active[n] {
		b.active[n] = true
		defer delete(b.active, n)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return b.alias(n, depth, out)
	case yaml.MappingNode:
		return b.mapping(n, depth, out)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, child := b.value(item, depth+1)
			list, out.items = append(list, v), append(out.items, child)
		}
		return list, out
	}
	out.value = n.Value
	return b.scalar(n), out
}

// alias returns what n stands for. It was written where the anchor is.
func (b *builder) alias(n *yaml.Node, depth int, out *node) (any, *node) {
	*b.aliases++
	switch {
	case *b.aliases > maxAliases:
		b.stopped = true
		b.problem(n, CodeAliasLimit, fmt.Sprintf("more than %d aliases in a file", maxAliases), "")
		return nil, out
	case n.Alias == nil || b.active[n.Alias]:
		b.problem(n, CodeAlias, "this alias stands for something that it is part of", "")
		return nil, out
	}
	b.within++
	v, target := b.value(n.Alias, depth)
	b.within--
	return v, target
}

// mapping returns what n, a mapping, holds.
func (b *builder) mapping(n *yaml.Node, depth int, out *node) (any, *node) {
	m := make(map[string]any, len(n.Content)/2)
	out.fields = make(map[string]*node, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			merges = append(merges, v)
			continue
		}
		name, ok := b.key(k)
		value, child := b.value(v, depth+1)
		if !ok {
			continue
		}
		named := *child // what an alias stands for is written once, and has several names
		at := b.at(k)
		named.key, named.keyLength = at, b.keyLength(k)
		if first, twice := out.fields[name]; twice {
			if len(b.report.Problems) > maxProblems {
				continue
			}
			p := b.problem(k, CodeDuplicateKey, fmt.Sprintf("the key `%s` is there twice", name), "here again")
			p.Related = []Related{{b.doc.src.position(first.key.line, first.key.column, first.keyLength), "first here"}}
			continue
		}
		m[name], out.fields[name] = value, &named
	}
	for _, v := range merges {
		b.merge(v, depth, m, out)
	}
	return m, out
}

// merge adds what << stands for to a mapping, as far as it is not there.
func (b *builder) merge(n *yaml.Node, depth int, m map[string]any, out *node) {
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			b.merge(item, depth+1, m, out)
		}
		return
	}
	value, from := b.value(n, depth+1)
	fields, ok := value.(map[string]any)
	if !ok {
		if !b.stopped {
			b.problem(n, CodeType, "<< merges mappings only", "this is none")
		}
		return
	}
	for k, v := range fields {
		if _, there := m[k]; !there {
			m[k], out.fields[k] = v, from.fields[k]
		}
	}
}

// key returns the text of a key.
func (b *builder) key(k *yaml.Node) (string, bool) {
	if k.Kind == yaml.AliasNode && k.Alias != nil {
		k = k.Alias
	}
	switch {
	case k.Kind != yaml.ScalarNode:
		b.problem(k, CodeKey, "the key of a mapping must be a simple value", "if this is {{ }} of a template, put it in quotes")
		return "", false
	case k.ShortTag() == "!!null":
		b.problem(k, CodeKey, "the key of a mapping is missing", "")
		return "", false
	case len(k.Value) > maxKey:
		b.problem(k, CodeKey, fmt.Sprintf("a key may have at most %d bytes", maxKey), "")
		return "", false
	}
	return k.Value, true
}

// scalar returns the value of n, a scalar.
func (b *builder) scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!binary":
		return n.Value
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			break
		}
		switch v := v.(type) {
		case bool:
			return v
		case int:
			return int64(v)
		case int64:
			return v
		case uint64:
			return float64(v)
		case float64:
			if math.IsInf(v, 0) || math.IsNaN(v) {
				b.problem(n, CodeValue, "objects can't hold a number that is infinite or none", "")
				return nil
			}
			return v
		}
	}
	b.problem(n, CodeValue, "this tag or value has no meaning in an object", "remove the tag, or put it in quotes")
	return n.Value
}

// width returns the number of characters of s.
func width(s string) int { return utf8.RuneCountInString(s) }

// keyLength returns how many characters a key takes, quotes included.
func (b *builder) keyLength(k *yaml.Node) int {
	if k.Style == 0 && k.Anchor == "" {
		return width(k.Value)
	}
	at := b.at(k)
	return b.doc.src.extent(scalar{at.line, at.column, k.Style, k.Value}).Length
}
