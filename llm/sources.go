package llm

import (
	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/jsonpath"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// citationMembers are what a citation of Messages says of its source.
var citationMembers = []string{"cited_text", "title", "url", "source", "document_title"}

// annotationMembers are what an annotation of Responses does, and one of chat completions in its
// url_citation.
var annotationMembers = []string{"title", "url", "filename", "content"}

// membersAt are the members of that name at a place.
func membersAt(at string, depth int, members ...string) (out []answerPath) {
	for _, m := range members {
		out = append(out, answerPath{at + m, thought, depth})
	}
	return out
}

// sourcePaths are the texts below prefix that tell of an answer's sources: what was searched for, what was
// found, and what is quoted of it. They come whole, never in pieces.
func sourcePaths(f form, prefix string) []answerPath {
	switch f {
	case messages: // prefix is a block
		return append(membersAt(prefix+"citations[*].", 1, citationMembers...),
			membersAt(prefix+"content[*].", 1, "url", "title", "stdout", "stderr", "content.title", "content.source.data")...)
	case generate: // prefix is a candidate
		return membersAt(prefix, 1, "groundingMetadata.**", "citationMetadata.**", "urlContextMetadata.**")
	case respond: // prefix is an item
		return append(membersAt(prefix+"content[*].annotations[*].", 0, annotationMembers...), membersAt(prefix, 0,
			"action.query", "action.queries[*]", "action.url", "action.sources[*].url", "queries[*]", "results[*].text", "results[*].filename",
			"outputs[*].logs", "output", "output[*].stdout", "output[*].stderr")...)
	default: // prefix is a message
		return membersAt(prefix+"annotations[*].url_citation.", 1, annotationMembers...)
	}
}

// listedPaths are the sources that servers like OpenAI list beside the choices.
var listedPaths = membersAt("", 0, "citations[*]", "search_results[*].title", "search_results[*].url", "search_results[*].snippet")

// nativeTexts are those of a citation as Anthropic writes it.
var nativeTexts = jsonpath.Compile(citationMembers...)

// guardCitation checks what a citation says of its source, and masks it.
func guardCitation(x *guard.Regex, c *dialect.Citation) (rejected bool) {
	for _, text := range []*string{&c.URL, &c.Title, &c.Quote} {
		if *text, rejected = x.Check(*text); rejected {
			return true
		}
	}
	if c.Native == nil {
		return false
	}
	places := nativeTexts.Find(c.Native)
	texts := make([]string, len(places))
	for i := range places {
		if texts[i], rejected = x.Check(places[i].Text(c.Native)); rejected {
			return true
		}
	}
	c.Native = jsonpath.Replace(c.Native, places, texts)
	return false
}
