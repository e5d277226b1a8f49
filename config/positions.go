package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// Positions finds where in a file the fields of objects were written. It is built
// by [Load], and safe for concurrent use afterwards. A nil *Positions finds
// nothing.
//
// Paths are like spec.mcp.targets[0].static.port, in the spelling of the Go types;
// where a file uses another accepted spelling, that is looked up.
type Positions struct {
	objects map[ObjectRef]*written
	sources *Sources
}

// Find returns the position of the field at path of the object, of its nearest
// enclosing field that has one, or the zero Position. It is the position of the
// value when that is a simple one, else that of the field's name.
func (p *Positions) Find(obj ObjectRef, path string) Position {
	if w := p.object(obj); w != nil {
		return w.find(path)
	}
	return Position{}
}

// FindKey returns the position of the name of the field at path of the object. It
// returns what [Positions.Find] does when the field has no name, such as an item
// of a list, or is not written.
func (p *Positions) FindKey(obj ObjectRef, path string) Position {
	if w := p.object(obj); w != nil {
		return w.findKey(path)
	}
	return Position{}
}

// FindOffset returns the position of one character of the string at path of the
// object, whatever way the string is written: plain, quoted with escapes, or as a
// block. The offset counts characters from 0; one at or past the end is the place
// after the last. It returns what [Positions.Find] does when there is no string at
// path.
func (p *Positions) FindOffset(obj ObjectRef, path string, offset int) Position {
	if w := p.object(obj); w != nil {
		return w.findOffset(path, offset)
	}
	return Position{}
}

// Written returns path in the spelling that the object was written in.
func (p *Positions) Written(obj ObjectRef, path string) string {
	if w := p.object(obj); w != nil {
		return v1alpha1.Written(w.renames, path)
	}
	return path
}

// Sources returns the files that the objects come from, for [Render].
func (p *Positions) Sources() *Sources {
	if p == nil {
		return nil
	}
	return p.sources
}

// object returns how the object was written, or nil.
func (p *Positions) object(obj ObjectRef) *written {
	if p == nil {
		return nil
	}
	return p.objects[obj]
}

// written is how an object was written.
type written struct {
	src     *source
	root    *node
	renames []v1alpha1.Rename
}

// A node is where a value of a document was written.
type node struct {
	key       place // zero for items of lists and for documents
	keyLength int
	scalar    // where the value begins; its string, if it is a scalar
	kind      yaml.Kind
	fields    map[string]*node
	items     []*node
}

// field returns the node at path, or nil. Names of fields may contain dots, as
// those of labels do: the longest one that is there wins.
func (n *node) field(path string) *node {
	if n == nil || path == "" {
		return n
	}
	if rest, ok := strings.CutPrefix(path, "["); ok {
		number, rest, _ := strings.Cut(rest, "]")
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(n.items) {
			return nil
		}
		return n.items[i].field(strings.TrimPrefix(rest, "."))
	}
	for end := len(path); end > 0; end = strings.LastIndexAny(path[:end], ".[") {
		child, ok := n.fields[path[:end]]
		if !ok {
			continue
		}
		if found := child.field(strings.TrimPrefix(path[end:], ".")); found != nil {
			return found
		}
	}
	return nil
}

// nearest returns the node at path, or of the nearest enclosing field that is
// written, and whether it is the one at path.
func (w *written) nearest(path string) (*node, bool) {
	path = v1alpha1.Written(w.renames, path)
	for p := path; p != ""; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		if n := w.root.field(p); n != nil {
			return n, p == path
		}
	}
	return w.root, path == ""
}

func (w *written) find(path string) Position {
	n, _ := w.nearest(path)
	if n == w.root {
		return w.title()
	}
	return w.position(n)
}

func (w *written) findKey(path string) Position {
	n, exact := w.nearest(path)
	switch {
	case n == w.root:
		return w.title()
	case !exact || n.key.line == 0:
		return w.position(n)
	}
	return w.src.position(n.key.line, n.key.column, n.keyLength)
}

func (w *written) findOffset(path string, offset int) Position {
	n, exact := w.nearest(path)
	if exact && n.kind == yaml.ScalarNode {
		if places := w.src.places(n.scalar); places != nil {
			at := places[min(max(offset, 0), len(places)-1)]
			return w.src.position(at.line, at.column, 1)
		}
	}
	return w.find(path)
}

// title returns the position of the object as a whole: its name, or what comes
// nearest to it.
func (w *written) title() Position {
	for _, path := range []string{"metadata.name", "metadata", "kind", "apiVersion"} {
		if n := w.root.field(path); n != nil {
			return w.position(n)
		}
	}
	return w.src.rest(w.root.line, w.root.column)
}

// position returns the position of what n holds if that is a string, number or
// the like on one line, else of its name.
func (w *written) position(n *node) Position {
	if n.kind == yaml.ScalarNode && n.value != "" && n.style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		return w.src.extent(n.scalar)
	}
	if n.key.line > 0 {
		return w.src.position(n.key.line, n.key.column, n.keyLength)
	}
	first := n
	for _, f := range n.fields {
		if first == n || f.key.line < first.key.line || f.key.line == first.key.line && f.key.column < first.key.column {
			first = f
		}
	}
	if first != n {
		return w.src.position(first.key.line, first.key.column, first.keyLength)
	}
	return w.src.position(n.line, n.column, 1)
}

// extent returns the position of a scalar, quotes included, as far as it is on its
// first line.
func (s *source) extent(sc scalar) Position {
	places := s.places(sc)
	if places == nil {
		return s.rest(sc.line, sc.column)
	}
	start, end := places[0], places[len(places)-1]
	if sc.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		start.column--
		end.column++
	}
	if start.column < 1 || end.line != start.line {
		return s.rest(start.line, start.column)
	}
	return s.position(start.line, start.column, end.column-start.column)
}
