package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Class says what a [Problem] does to the configuration. What follows from it
// depends on the source: package gateway decides.
type Class uint8

// The classes of problems.
const (
	// Invalid problems are mistakes in what is written: syntax, schema, an
	// unknown field, CEL, a regular expression. Files with one are refused as a
	// whole, and the last good configuration stays.
	Invalid Class = iota + 1
	// Unresolved problems are references to what is not there (yet), or fields
	// that are not served: the rest applies, their share answers an error, and
	// they heal without a restart.
	Unresolved
	// Warning problems change nothing.
	Warning
)

// String returns error, unresolved or warning: how a problem of the class is
// titled.
func (c Class) String() string {
	switch c {
	case Invalid:
		return "error"
	case Unresolved:
		return "unresolved"
	case Warning:
		return "warning"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// MarshalText encodes as String prints.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// An ObjectRef names an object. Kinds are unique across the API groups that mcpgw
// reads. Namespace is empty for objects that belong to none, such as a
// GatewayClass, and never empty for others.
type ObjectRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String returns Kind/namespace/name, without the namespace when it is empty or
// "default", and the kind alone when there is no name.
func (r ObjectRef) String() string {
	if r.Name == "" {
		return r.Kind
	}
	if r.Namespace == "" || r.Namespace == "default" {
		return r.Kind + "/" + r.Name
	}
	return r.Kind + "/" + r.Namespace + "/" + r.Name
}

// A Position is a place in a file; the zero Position is unknown. Line and Column
// count from 1, Column and Length in characters. Length is what a caret
// underlines, and may be 0.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Length int    `json:"length,omitempty"`
}

// IsZero reports whether the position is unknown.
func (p Position) IsZero() bool { return p.File == "" }

// String returns file:line:column, or the file alone when the line is not known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// A Problem is one thing that is wrong with an object, for its author. No part
// of it holds a secret.
type Problem struct {
	Class    Class     `json:"class"`
	Code     string    `json:"code"`              // stable, MG and four digits: [Codes] explains each
	Object   ObjectRef `json:"object,omitzero"`   // zero when the file does not get that far
	Path     string    `json:"path,omitempty"`    // spec.mcp.targets[0].static.port
	Position Position  `json:"position,omitzero"` // where it was written, if in a file
	Reason   string    `json:"reason,omitempty"`  // condition reason for status, such as BackendNotFound; "" means Invalid
	Message  string    `json:"message"`           // what is wrong
	Label    string    `json:"label,omitempty"`   // a few words at the caret, such as: did you mean `port`?
	Help     string    `json:"help,omitempty"`    // what to do about it
	Related  []Related `json:"related,omitempty"` // other places that it is about
}

// A Related is another place that a [Problem] is about.
type Related struct {
	Position Position `json:"position"`
	Message  string   `json:"message"`
}

// A Report says, object by object, what became of a set of resources. The zero
// Report is empty and ready to use. It is not safe for concurrent use. A nil
// Report can be read, and is empty.
type Report struct {
	Problems []Problem `json:"problems"`
	// Attachments say what is in force where, in no order. They are for status.
	Attachments []Attachment `json:"-"`
}

// An Attachment says that an object is in force somewhere: an HTTPRoute at a listener of a
// Gateway, a policy on what it covers.
type Attachment struct {
	Object  ObjectRef // the route or policy
	Path    string    // the field that attaches it: spec.parentRefs[0], spec.targetRefs[1]
	To      ObjectRef // the Gateway, or what the policy covers
	Section string    // the listener, or the section that the policy covers; "" is all
}

// Add appends p.
func (r *Report) Add(p Problem) { r.Problems = append(r.Problems, p) }

// AddAt appends p, which is about p.Path of p.Object, with the position at which
// that was written, and with Path as it was written. A position that p has
// already stays. pos may be nil.
func (r *Report) AddAt(pos *Positions, p Problem) {
	if p.Position.IsZero() {
		p.Position = pos.Find(p.Object, p.Path)
		p.Path = pos.Written(p.Object, p.Path)
	}
	r.Add(p)
}

// Merge appends the problems and attachments of o, which may be nil.
func (r *Report) Merge(o *Report) {
	if o != nil {
		r.Problems = append(r.Problems, o.Problems...)
		r.Attachments = append(r.Attachments, o.Attachments...)
	}
}

// Has reports whether there is a problem of class c.
func (r *Report) Has(c Class) bool { return r.Count(c) > 0 }

// Count returns how many problems of class c there are.
func (r *Report) Count(c Class) int {
	if r == nil {
		return 0
	}
	n := 0
	for i := range r.Problems {
		if r.Problems[i].Class == c {
			n++
		}
	}
	return n
}

// Sort orders the problems: errors first, warnings last, and each class by file,
// line and column. Problems without a position come last in their class, by
// object. Exact repetitions are dropped.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Class, b.Class),
			compareBool(a.Position.IsZero(), b.Position.IsZero()),
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
			strings.Compare(a.Object.String(), b.Object.String()),
			strings.Compare(a.Path, b.Path),
			strings.Compare(a.Code, b.Code),
			strings.Compare(a.Message, b.Message),
		)
	})
	r.Problems = slices.CompactFunc(r.Problems, func(a, b Problem) bool {
		return a.Class == b.Class && a.Code == b.Code && a.Object == b.Object && a.Path == b.Path && a.Position == b.Position && a.Message == b.Message
	})
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Summary counts the problems in words, such as "2 errors, 1 warning". It is
// "no problems" when there are none.
func (r *Report) Summary() string {
	var parts []string
	for _, c := range []struct {
		class     Class
		one, many string
	}{{Invalid, "error", "errors"}, {Unresolved, "unresolved", "unresolved"}, {Warning, "warning", "warnings"}} {
		switch n := r.Count(c.class); n {
		case 0:
		case 1:
			parts = append(parts, "1 "+c.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, c.many))
		}
	}
	if len(parts) == 0 {
		return "no problems"
	}
	return strings.Join(parts, ", ")
}
