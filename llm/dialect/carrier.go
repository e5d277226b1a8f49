package dialect

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Carrier is one [Request] on its way to one provider, with the account of what is
// left behind. It belongs to one goroutine; the Request is only read.
type Carrier struct {
	*Request
	Model  string // to ask for
	Origin string // whose signatures the provider takes
	// Native is whose the untagged signatures of the client's dialect seem to be, when
	// the provider speaks it, too: it made them then.
	Native string

	taken   []bool // of Request.Fields
	dropped []string
}

// Carry returns a Carrier for r, to be sent to a provider as model.
func Carry(r *Request, model, origin string) *Carrier {
	return &Carrier{Request: r, Model: model, Origin: origin, taken: make([]bool, len(r.Fields))}
}

// Take returns the value of the field of that name and counts it as carried; nil
// when there is none. A null counts as none.
func (c *Carrier) Take(name string) jsontext.Value {
	for i := range c.Fields {
		if c.Fields[i].Name == name {
			c.taken[i] = true
			if c.Fields[i].Value.Kind() == 'n' {
				return nil
			}
			return c.Fields[i].Value
		}
	}
	return nil
}

// Field returns the value of the field of that name, nil when there is none, and does not
// count it as carried.
func (c *Carrier) Field(name string) jsontext.Value {
	for i := range c.Fields {
		if c.Fields[i].Name == name {
			return c.Fields[i].Value
		}
	}
	return nil
}

// TakeDefault counts the field of that name as carried if its value is the one that the
// provider goes by anyway.
func (c *Carrier) TakeDefault(name string, value string) {
	for i := range c.Fields {
		if c.Fields[i].Name == name && string(c.Fields[i].Value) == value {
			c.taken[i] = true
		}
	}
}

// Drop notes that what stands at path in the client's request is not carried.
func (c *Carrier) Drop(path string) {
	if path != "" && !slices.Contains(c.dropped, path) {
		c.dropped = append(append(c.dropped, path), c.joined[path]...)
	}
}

// Thinking returns how much the model is to think, for vendors that have words of their own for it. The effort is one of
// none, minimal, low, medium, high, xhigh and max, or "": nobody can say how much another word is, so
// it is noted as dropped.
func (c *Carrier) Thinking() Reasoning {
	r := c.Reasoning
	switch {
	case r.Effort == "none":
		r.Off = true
	case r.Effort != "" && r.effort() == 0:
		c.Drop(r.EffortAt)
		if r.Effort = ""; !r.Off && !r.Adaptive && r.Budget == 0 && !r.Hidden {
			r.Path = ""
		}
	}
	return r
}

// Owns reports whether the provider made the signature of p. Others are not sent:
// the part is noted as dropped.
func (c *Carrier) Owns(p *Part) bool {
	if p.Signature != "" && c.Made(p) {
		return true
	}
	c.Drop(p.Path)
	return false
}

// Made reports whether the provider made the signature of p, if it has one.
func (c *Carrier) Made(p *Part) bool {
	return p.Origin == c.Origin || c.Native != "" && p.Origin == c.Native
}

// Dropped returns the paths of all that is not carried, sorted.
func (c *Carrier) Dropped() []string {
	out := slices.Clone(c.dropped)
	for i, f := range c.Fields {
		if !c.taken[i] && f.Value.Kind() != 'n' {
			out = append(out, f.Path)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
