package dialect

import "strings"

// Media is an image, a sound or a document.
type Media struct {
	Type   string // media type, "" when it is not known
	Data   string // base64
	URL    string // where it is, when Data is empty
	File   string // the provider's id of it, when both are empty
	Name   string // file name, "" when it has none
	Detail string // OpenAI's detail of an image: low, high, auto; "" when it is not said
}

// MediaOf returns what a URL refers to, or holds (RFC 2397).
func MediaOf(url string) Media {
	rest, ok := strings.CutPrefix(url, "data:")
	if !ok {
		return Media{URL: url}
	}
	head, data, ok := strings.Cut(rest, ",")
	typ, encoded := strings.CutSuffix(head, ";base64")
	if !ok || !encoded {
		return Media{URL: url}
	}
	typ, _, _ = strings.Cut(typ, ";")
	return Media{Type: typ, Data: data}
}

// DataURL is the inverse of [MediaOf].
func (m *Media) DataURL() string {
	if m.Data == "" {
		return m.URL
	}
	return "data:" + m.Type + ";base64," + m.Data
}
