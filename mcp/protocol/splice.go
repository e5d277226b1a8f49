package protocol

// An Edit is one change to a checked JSON object: set the value at Path to Value
// (one raw JSON value), or remove it when Value is nil. Objects that are missing
// on the way to a value that is set are made; what stands in their place and is
// no object is replaced. An Edit without a Path does nothing.
type Edit struct {
	Path  []string
	Value []byte
}

// Splice returns obj with the edits applied one after the other and every other
// byte as it was. New members come last. obj may be nil, which stands for {};
// the result may alias obj when there are no edits. A name that obj spells with
// escapes is found too, so that no name comes to stand twice.
func Splice(obj []byte, edits ...Edit) []byte {
	if obj == nil {
		obj = []byte("{}")
	}
	size := len(obj)
	for i := range edits {
		size += len(edits[i].Value)
		for _, name := range edits[i].Path {
			size += len(name) + len(`,"":{}`)
		}
	}
	for len(edits) > 0 {
		n := min(len(edits), 64) // one pass for as many as a set can hold
		s := splicer{edits: edits[:n]}
		if all := s.all(); all != 0 {
			base, rest, _ := s.base(obj, -1, all)
			obj = s.value(make([]byte, 0, size), base, -1, rest)
		}
		edits = edits[n:]
	}
	return obj
}

// A splicer applies edits in one pass over an object.
type splicer struct{ edits []Edit }

// An editSet is a set of a splicer's edits, a bit each.
type editSet uint64

func (set editSet) has(i int) bool { return set&(1<<i) != 0 }

// all returns the edits that have a path.
func (s *splicer) all() (set editSet) {
	for i := range s.edits {
		if len(s.edits[i].Path) > 0 {
			set |= 1 << i
		}
	}
	return set
}

// named returns the edits of set whose path has the same name at depth as the
// member at which w stands.
func (s *splicer) named(w *walker, depth int, set editSet) (same editSet) {
	for i := range s.edits {
		if set.has(i) && w.is(s.edits[i].Path[depth]) {
			same |= 1 << i
		}
	}
	return same
}

// base returns what the edits of set, which lead to a member at depth, start
// from: its value old (nil when there is none) or what the last of them that
// sets or removes the member itself puts there; and rest, those that come after
// and change something inside. present is false when no member remains.
func (s *splicer) base(old []byte, depth int, set editSet) (base []byte, rest editSet, present bool) {
	base, present = old, old != nil
	for i := range s.edits {
		switch e := &s.edits[i]; {
		case !set.has(i):
		case len(e.Path) == depth+1:
			base, present, rest = e.Value, e.Value != nil, 0
		default:
			rest |= 1 << i
			present = present || e.Value != nil
		}
	}
	return base, rest, present
}

// value appends base, the value of a present member at depth, with the edits of
// rest applied inside it.
func (s *splicer) value(dst, base []byte, depth int, rest editSet) []byte {
	if rest == 0 {
		return append(dst, base...)
	}
	if i := skipSpace(base, 0); i < len(base) && base[i] == '{' {
		return s.object(dst, base, depth+1, rest)
	}
	for i := range s.edits {
		if rest.has(i) && s.edits[i].Value != nil {
			return s.object(dst, []byte("{}"), depth+1, rest)
		}
	}
	return append(dst, base...) // no object, so that there is nothing to remove
}

// object appends obj with the edits of set applied, whose names at depth are
// names of members of obj.
func (s *splicer) object(dst, obj []byte, depth int, set editSet) []byte {
	dst = append(dst, '{')
	var (
		w     = walk(obj, '{')
		from  = w.pos // where the current member begins, its white space included
		space []byte  // white space after the last member that was kept
		comma bool    // a member was kept
		met   editSet // the edits whose member there is
	)
	for w.next() {
		mine := s.named(&w, depth, set)
		met |= mine
		after := skipSpace(obj, w.end)
		if base, rest, present := s.base(w.value(), depth, mine); present {
			dst = append(dst, space...)
			if comma {
				dst = append(dst, ',')
			}
			dst = append(dst, obj[from:w.val]...)
			dst = s.value(dst, base, depth, rest)
			space, comma = obj[w.end:after], true
		}
		from = min(after+1, len(obj))
	}
	for i := range s.edits {
		if !set.has(i) || met.has(i) {
			continue
		}
		var mine editSet
		for j := range s.edits {
			if set.has(j) && s.edits[j].Path[depth] == s.edits[i].Path[depth] {
				mine |= 1 << j
			}
		}
		met |= mine
		if base, rest, present := s.base(nil, depth, mine); present {
			if comma {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, s.edits[i].Path[depth]), ':')
			dst = s.value(dst, base, depth, rest)
			comma = true
		}
	}
	dst = append(dst, space...)
	return append(dst, '}')
}
