package bedrock

import (
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of what an answer cites (API reference, CitationsContentBlock).
type (
	cited struct {
		Content   []textBlock `json:"content"`
		Citations []citation  `json:"citations"`
	}
	textBlock struct {
		Text string `json:"text"`
	}
	citation struct {
		Title         string      `json:"title"`
		Source        string      `json:"source"`
		SourceContent []textBlock `json:"sourceContent"`
		Location      struct {
			Web struct {
				URL string `json:"url"`
			} `json:"web"`
		} `json:"location"`
	}
)

// text returns the text that stands in blocks.
func text(blocks []textBlock) string {
	var out strings.Builder
	for _, b := range blocks {
		out.WriteString(b.Text)
	}
	return out.String()
}

// canonical returns a citation of a block of an answer, which is about all of its text.
func (c *citation) canonical(block, i int) dialect.Citation {
	title := c.Title
	if title == "" {
		title = c.Source
	}
	return dialect.Citation{
		Path: blockPath(block) + ".citations[" + strconv.Itoa(i) + "]", URL: c.Location.Web.URL, Title: title, Quote: text(c.SourceContent),
	}
}

// canonical returns a text with what it cites.
func (c *cited) canonical(block int) dialect.Part {
	p := dialect.Part{Kind: dialect.Text, Text: text(c.Content)}
	for i := range c.Citations {
		p.Citations = append(p.Citations, c.Citations[i].canonical(block, i))
	}
	return p
}
