package config

// Positions finds the file position of an object's field. It is built by
// [FileSource], and safe for concurrent use afterwards.
type Positions struct {
	fields map[ObjectRef]map[string]Position
}

// Find returns the position of the field at path of the object, of its nearest
// enclosing field that has one, or the zero Position.
func (p *Positions) Find(obj ObjectRef, path string) Position {
	panic("unwritten")
}
