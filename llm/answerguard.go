package llm

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/jsonpath"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// nobody is whose signature stands in the place of one that is not right any more: what it was for
// was changed. It is nobody's, so that the part goes to no provider again.
const nobody = "masked"

// answerGuard returns the guard of the answer, nil without one.
func (a *attempt) answerGuard() *guard.Answer {
	g := a.policy.Answer
	if g == nil || a.speaks.counts() {
		return nil
	}
	return g
}

// asks returns what the webhook of a guard makes of the texts of an answer.
func (a *attempt) asks(g *guard.Answer, texts []string) ([]string, error) {
	messages := make([]guard.Message, len(texts))
	for i, t := range texts {
		messages[i] = guard.Message{Role: "assistant", Text: t}
	}
	out, err := g.Ask(a.ctx, a.header, messages)
	if err != nil {
		return nil, err
	}
	changed := make([]string, len(out))
	for i := range out {
		changed[i] = out[i].Text
	}
	return changed, nil
}

// guardResponse checks an answer that is translated.
func (a *attempt) guardResponse(r *dialect.Response) error {
	g := a.answerGuard()
	if g == nil {
		return nil
	}
	var texts []*dialect.Part
	var said []string
	for i := range r.Choices {
		for j := range r.Choices[i].Parts {
			if p := &r.Choices[i].Parts[j]; p.Kind == dialect.Text {
				texts, said = append(texts, p), append(said, p.Text)
			}
		}
	}
	out, err := a.asks(g, said)
	if err != nil {
		return err
	}
	for i, p := range texts {
		if p.Text != out[i] {
			p.Rewrite(out[i])
			a.unsign(p)
		}
	}
	if g.Regex == nil {
		return nil
	}
	for i := range r.Choices {
		for j := range r.Choices[i].Parts {
			p := &r.Choices[i].Parts[j]
			for k := range p.Citations {
				if guardCitation(g.Regex, &p.Citations[k]) {
					return g.Rejected()
				}
			}
			check := g.Regex.Check
			switch p.Kind {
			case dialect.Text, dialect.Thinking, dialect.Refusal:
			case dialect.ToolCall:
				check = func(text string) (string, bool) { return maskArguments(g.Regex, text) }
			default:
				continue
			}
			text, rejected := check(p.Text)
			if rejected {
				return g.Rejected()
			}
			if text != p.Text {
				p.Rewrite(text)
				a.unsign(p)
			}
		}
	}
	return nil
}

// unsign takes the signature off a part that was changed.
func (a *attempt) unsign(p *dialect.Part) {
	if p.Signature != "" {
		p.Signature = ""
		a.lose("signature")
	}
}

// A textKind says how a string of an answer is checked.
type textKind uint8

const (
	spoken    textKind = iota // what the model says: the webhook gets it, too
	thought                   // and thinks, or writes for tools
	arguments                 // JSON in a string
	signature                 // of the other strings at the same place
)

// An answerPath is where strings of an answer stand. Those whose signature is at the same place have the
// same depth, which is a number of [*].
type answerPath struct {
	path  string
	kind  textKind
	depth int
}

// answerPaths are the texts of answers.
func answerPaths(f form, prefix string) (out []answerPath) {
	add := func(path string, kind textKind, depth int) { out = append(out, answerPath{prefix + path, kind, depth}) }
	switch f {
	case messages:
		add("content[*].text", spoken, 1)
		add("content[*].thinking", thought, 1)
		add("content[*].input.**", thought, 1)
		add("content[*].signature", signature, 1)
		out = append(out, sourcePaths(f, prefix+"content[*].")...)
	case generate:
		add("candidates[*].content.parts[*].text", spoken, 2)
		add("candidates[*].content.parts[*].functionCall.args.**", thought, 2)
		add("candidates[*].content.parts[*].executableCode.code", thought, 2)
		add("candidates[*].content.parts[*].codeExecutionResult.output", thought, 2)
		add("candidates[*].content.parts[*].thoughtSignature", signature, 2)
		out = append(out, sourcePaths(f, prefix+"candidates[*].")...)
	case respond:
		out = itemPaths(prefix + "output[*].")
	case embed, embedContent, embedContents: // which have no words
	default:
		add("choices[*].message.content", spoken, 1)
		add("choices[*].message.content[*].text", spoken, 1)
		add("choices[*].message.refusal", thought, 1)
		add("choices[*].message.reasoning_content", thought, 1)
		add("choices[*].message.reasoning", thought, 1)
		add("choices[*].message.reasoning_details[*].text", thought, 2)
		add("choices[*].message.reasoning_details[*].summary", thought, 2)
		add("choices[*].message.reasoning_details[*].signature", signature, 2)
		add("choices[*].message.tool_calls[*].function.arguments", arguments, 2)
		add("choices[*].message.tool_calls[*].custom.input", thought, 2)
		add("choices[*].message.function_call.arguments", arguments, 1)
		add("choices[*].message.audio.transcript", thought, 1)
		out = append(append(out, sourcePaths(f, "choices[*].message.")...), listedPaths...)
	}
	return out
}

// itemPaths are the texts of an item of Responses.
func itemPaths(prefix string) []answerPath {
	return append([]answerPath{
		{prefix + "content[*].text", spoken, 0}, {prefix + "content[*].refusal", thought, 0}, {prefix + "content[*].transcript", thought, 0},
		{prefix + "summary[*].text", thought, 0}, {prefix + "arguments", arguments, 0}, {prefix + "input", thought, 0}, {prefix + "code", thought, 0},
	}, sourcePaths(respond, prefix)...)
}

// An answerTexts are the texts of one kind of document.
type answerTexts struct {
	list  []answerPath
	paths jsonpath.Paths
}

func textsOf(list []answerPath) answerTexts {
	patterns := make([]string, len(list))
	for i, p := range list {
		patterns[i] = p.path
	}
	return answerTexts{list, jsonpath.Compile(patterns...)}
}

// answerTextsOf are the texts of whole answers, by form.
var answerTextsOf = func() (out [clientForms]answerTexts) {
	for f := range out {
		out[f] = textsOf(answerPaths(form(f), ""))
	}
	return out
}()

// guardBody checks an answer that passes as bytes, and returns it as it may pass.
func (a *attempt) guardBody(body []byte) ([]byte, error) {
	g := a.answerGuard()
	if g == nil {
		return body, nil
	}
	return a.guardDocument(g, answerTextsOf[a.form], body)
}

// guardDocument checks the texts of a document.
func (a *attempt) guardDocument(g *guard.Answer, t answerTexts, doc []byte) ([]byte, error) {
	places := t.paths.Find(doc)
	texts := make([]string, len(places))
	kinds := make([]textKind, len(places))
	thoughts := a.thoughts(doc)
	var said []string
	for i := range places {
		texts[i], kinds[i] = places[i].Text(doc), t.list[places[i].Pattern].kind
		if kinds[i] == spoken && thoughts[position(places[i].Indexes, 2)] {
			kinds[i] = thought
		}
		if kinds[i] == spoken {
			said = append(said, texts[i])
		}
	}
	said, err := a.asks(g, said)
	if err != nil {
		return nil, err
	}
	var changed []jsonpath.Place
	var now []string
	unsigned := map[string]bool{}
	for i := range places {
		p := t.list[places[i].Pattern]
		if p.kind == signature {
			continue
		}
		text := texts[i]
		if kinds[i] == spoken {
			text, said = said[0], said[1:]
		}
		if g.Regex != nil {
			check := g.Regex.Check
			if p.kind == arguments {
				check = func(text string) (string, bool) { return maskArguments(g.Regex, text) }
			}
			var rejected bool
			if text, rejected = check(text); rejected {
				return nil, g.Rejected()
			}
		}
		if text != texts[i] && !(p.kind == arguments && sameJSON(text, texts[i])) {
			changed, now = append(changed, places[i]), append(now, text)
			unsigned[position(places[i].Indexes, p.depth)] = true
		}
	}
	if len(changed) == 0 {
		return doc, nil
	}
	changed, now = a.unsignPlaces(t, places, texts, changed, now, unsigned)
	return a.withoutTokens(jsonpath.Replace(doc, changed, now)), nil
}

// tokenPaths are where answers say how likely each token was, which tells the tokens.
var tokenPaths = jsonpath.Compile(
	"choices[*].logprobs", "candidates[*].logprobsResult",
	"logprobs", "part.logprobs", "item.content[*].logprobs", "output[*].content[*].logprobs", "response.output[*].content[*].logprobs",
)

// segmentPaths are where answers of Gemini say a part of their text again, which may begin or end within what is
// to be masked.
var segmentPaths = jsonpath.Compile("candidates[*].groundingMetadata.groundingSupports[*].segment.text")

// withoutTokens returns an answer, or an event of one, without what it says of single tokens, and what
// of its text it says again.
func (a *attempt) withoutTokens(doc []byte) []byte {
	if a.form == generate && bytes.Contains(doc, []byte("groundingSupports")) {
		doc = jsonpath.Splice(doc, segmentPaths.Find(doc), `""`)
	}
	if !bytes.Contains(doc, []byte("logprobs")) {
		return doc
	}
	nothing := "null"
	if a.form == respond {
		nothing = "[]"
	}
	places := slices.DeleteFunc(tokenPaths.FindValues(doc), func(p jsonpath.Place) bool {
		v := string(doc[p.Start:p.End])
		return v == "null" || v == "[]"
	})
	if len(places) == 0 {
		return doc
	}
	a.lose("logprobs")
	return jsonpath.Splice(doc, places, nothing)
}

// thoughts returns the positions of the parts of an answer of Gemini that are thoughts, which look like texts.
func (a *attempt) thoughts(doc []byte) map[string]bool {
	if a.form != generate {
		return nil
	}
	var answer geminiAnswer
	if json.Unmarshal(doc, &answer) != nil {
		return nil // then they count as texts
	}
	out := map[string]bool{}
	for i := range answer.Candidates {
		for j, p := range answer.Candidates[i].Content.Parts {
			if p.Thought {
				out[position([]int{i, j}, 2)] = true
			}
		}
	}
	return out
}

// A geminiAnswer is what a guard has to know of an answer of Gemini.
type geminiAnswer struct {
	Candidates []struct {
		Index   int    `json:"index"`
		Reason  string `json:"finishReason"`
		Content struct {
			Parts []struct {
				Text    *string `json:"text"`
				Thought bool    `json:"thought"`
			} `json:"parts"`
		} `json:"content"`
	} `json:"candidates"`
}

// unsignPlaces adds the signatures of what was changed.
func (a *attempt) unsignPlaces(t answerTexts, places []jsonpath.Place, texts []string, changed []jsonpath.Place, now []string, unsigned map[string]bool) ([]jsonpath.Place, []string) {
	var outPlaces []jsonpath.Place
	var outTexts []string
	next := 0
	for i := range places {
		p := t.list[places[i].Pattern]
		switch {
		case next < len(changed) && changed[next].Start == places[i].Start:
			outPlaces, outTexts = append(outPlaces, changed[next]), append(outTexts, now[next])
			next++
		case p.kind == signature && texts[i] != "" && unsigned[position(places[i].Indexes, p.depth)]:
			outPlaces, outTexts = append(outPlaces, places[i]), append(outTexts, a.nobodys())
			a.lose("signature")
		}
	}
	return outPlaces, outTexts
}

// nobodys returns the signature of nobody in the dialect of the client.
func (a *attempt) nobodys() string {
	s := dialect.Foreign(nobody, "")
	if a.form == generate {
		return encodeBase64(s)
	}
	return s
}

// position returns what tells apart where a signature can be.
func position(indexes []int, depth int) string {
	out := ""
	for _, i := range indexes[:min(depth, len(indexes))] {
		out += strconv.Itoa(i) + "/"
	}
	return out
}

// unfit answers a client whose answer does not pass. Nobody else is asked. Other errors are
// returned.
func (a *attempt) unfit(err error) error {
	no := rejection(err)
	if no == nil {
		return err
	}
	says := &dialect.Error{Status: no.Status, Message: no.Message, Type: "content_filter", Code: "content_filter"}
	a.refused = says
	if !a.out.open() {
		return a.refuse(no)
	}
	err = a.out.fail(a.query, &failure{err: no, says: says})
	a.rec.ErrorType = "guard_" + no.By
	return err
}
