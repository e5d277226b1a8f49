package anthropic

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A citation is a source of a text, of any type (Messages, Citations): a place in a document
// of the request, a search result, or a page of the web.
type citation struct {
	Type           string         `json:"type"`
	CitedText      string         `json:"cited_text"`
	URL            string         `json:"url,omitzero"`
	Title          string         `json:"title,omitzero"`
	EncryptedIndex string         `json:"encrypted_index,omitzero"`
	Source         string         `json:"source,omitzero"`         // of a search result
	DocumentTitle  string         `json:"document_title,omitzero"` // of a document
	Rest           jsontext.Value `json:",embed"`
}

// canonical returns the citation of that number in the block of an answer.
func (c *citation) canonical(block, i int, native jsontext.Value) dialect.Citation {
	out := dialect.Citation{
		Path: blockPath(block) + ".citations[" + strconv.Itoa(i) + "]", URL: c.URL, Title: c.Title, Quote: c.CitedText, Native: native,
	}
	if out.URL == "" {
		out.URL = c.Source
	}
	if out.Title == "" {
		out.Title = c.DocumentTitle
	}
	return out
}

// citations reads the citations of a block of an answer.
func citations(v jsontext.Value, block int) (out []dialect.Citation) {
	dialect.Elements(v, func(i int, v jsontext.Value) {
		var c citation
		if json.Unmarshal(v, &c) == nil {
			out = append(out, c.canonical(block, i, v))
		}
	})
	return out
}

// encodeCitation returns a citation as a page of the web, of which the provider wants nothing
// back: what it made itself is passed as it was. It is nil when the source has no address.
func encodeCitation(c *dialect.Citation, o *dialect.WriterOptions) jsontext.Value {
	if o.Origin == vendor && c.Native != nil {
		return c.Native
	}
	if c.URL == "" {
		o.Lose(c.Path)
		return nil
	}
	if c.End > 0 {
		o.Lose(c.RangeAt[0]) // here it is all of the block that is cited
		o.Lose(c.RangeAt[1])
	}
	v, err := json.Marshal(citation{
		Type: "web_search_result_location", CitedText: c.Quote, URL: c.URL, Title: c.Title, EncryptedIndex: dialect.Foreign(o.Origin, ""),
	})
	if err != nil {
		return nil // strings: they can be written
	}
	return v
}
