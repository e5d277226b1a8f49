package responses

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An annotation is a source of a text: a page of the web. Files of the provider's are others.
type annotation struct {
	Type  string         `json:"type"` // url_citation
	Start int            `json:"start_index"`
	End   int            `json:"end_index"`
	Title string         `json:"title"`
	URL   string         `json:"url"`
	Rest  jsontext.Value `json:",embed"`
}

// citation reads the annotation at path; ok is false if it is none of the web.
func citation(v jsontext.Value, path string, lost func(at string)) (c dialect.Citation, ok bool) {
	var a annotation
	if json.Unmarshal(v, &a) != nil || a.Type != "url_citation" {
		lost(path)
		return c, false
	}
	dialect.Leftover(a.Rest, path, lost)
	return dialect.Citation{
		Path: path, URL: a.URL, Title: a.Title, Start: a.Start, End: a.End, RangeAt: [2]string{path + ".start_index", path + ".end_index"},
	}, true
}

// encodeCitation returns a citation of a text of n characters; nil when the source has no
// address.
func encodeCitation(c *dialect.Citation, n int, o *dialect.WriterOptions) jsontext.Value {
	if c.URL == "" {
		o.Lose(c.Path)
		return nil
	}
	o.LoseQuote(c)
	start, end := c.In(n, 0)
	v, err := json.Marshal(annotation{Type: "url_citation", Start: start, End: end, Title: c.Title, URL: c.URL})
	if err != nil {
		return nil // strings and numbers: they can be written
	}
	return v
}

func annotationPath(content string, i int) string {
	return content + ".annotations[" + strconv.Itoa(i) + "]"
}

// probabilities returns an array of log probabilities, nil when it is empty.
func probabilities(v jsontext.Value) jsontext.Value {
	if v.Kind() != '[' || len(v) <= len("[]") {
		return nil
	}
	return v
}
