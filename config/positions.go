package config

// Positions finds the file position of an object's field. It is built by
// [FileSource], and safe for concurrent use afterwards.
type Positions struct {
	fields map[ObjectRef]map[string]Position
}

// Find returns the position of the field at path of the object, of its nearest
// enclosing field that has one, or the zero Position.
func (p *Positions) Find(obj ObjectRef, path string) Position { panic("unwritten") }

// FindOffset returns the place of the character at offset in the string at path.
func (p *Positions) FindOffset(obj ObjectRef, path string, offset int) Position { panic("unwritten") }

// Written returns path as it was written.
func (p *Positions) Written(obj ObjectRef, path string) string { panic("unwritten") }

// Sources returns the files.
func (p *Positions) Sources() *Sources { panic("unwritten") }
