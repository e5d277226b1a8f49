package config

import "fmt"

// A Class says what a [Problem] does to the configuration (decided per source:
// see the package documentation of gateway).
type Class uint8

// The classes of problems.
const (
	// Invalid problems are mistakes in what is written: syntax, schema, an
	// unknown field, CEL, a regular expression. File mode refuses the whole set
	// and keeps the last good one.
	Invalid Class = iota + 1
	// Unresolved problems are references to what is not there (yet), or fields
	// that are not served: the rest applies, their share answers an error, and
	// they heal without a restart.
	Unresolved
	// Warning problems change nothing.
	Warning
)

// An ObjectRef names an object.
type ObjectRef struct {
	Kind      string
	Namespace string
	Name      string
}

// String returns Kind/namespace/name, without the namespace when it is empty or
// "default".
func (r ObjectRef) String() string {
	if r.Namespace == "" || r.Namespace == "default" {
		return r.Kind + "/" + r.Name
	}
	return r.Kind + "/" + r.Namespace + "/" + r.Name
}

// A Position is a place in a file; the zero Position is unknown. Line and Column
// count from 1, Length is in characters and may be 0.
type Position struct {
	File   string
	Line   int
	Column int
	Length int
}

// String returns file:line:column.
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// A Problem is one thing that is wrong with an object, for its author.
type Problem struct {
	Class    Class
	Code     string    // stable, MG and four digits: the table in codes.go explains each
	Object   ObjectRef // zero when the file does not get that far
	Path     string    // spec.mcp.targets[0].static.port
	Position Position  // where it was written, if in a file
	Reason   string    // condition reason for status, such as BackendNotFound; "" means Invalid
	Message  string    // what is wrong
	Help     string    // what to do about it; may be empty
}

// A Report says, object by object, what became of a set of resources. The zero
// Report is empty and ready to use. It is not safe for concurrent use.
type Report struct {
	Problems []Problem
}

// Add appends p.
func (r *Report) Add(p Problem) { r.Problems = append(r.Problems, p) }

// Has reports whether there is a problem of class c.
func (r *Report) Has(c Class) bool {
	for i := range r.Problems {
		if r.Problems[i].Class == c {
			return true
		}
	}
	return false
}
