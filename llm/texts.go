package llm

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/jsonpath"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A promptPath is where texts of a request stand, and whose they are.
type promptPath struct{ path, role string }

// promptPaths are the texts of requests that prompt guards check: what is said, and what tools have
// answered. The arguments of calls are the model's words, and were checked when it said them.
func promptPaths(f form) []promptPath {
	switch f {
	case messages, count:
		return []promptPath{
			{"system", "system"}, {"system[*].text", "system"},
			{"messages[*].content", ""}, {"messages[*].content[*].text", ""},
			{"messages[*].content[*].content", "tool"}, {"messages[*].content[*].content[*].text", "tool"},
			{"messages[*].content[*].content[*].content[*].text", "tool"},
			{"messages[*].content[*].source{type=text}.data", ""}, {"messages[*].content[*].source.content", ""},
			{"messages[*].content[*].source.content[*].text", ""},
			{"messages[*].content[*].content[*].source{type=text}.data", "tool"},
			{"messages[*].content[*].title", ""}, {"messages[*].content[*].context", ""},
		}
	case generate, countContents:
		var out []promptPath
		for _, prefix := range []string{"", "generateContentRequest.", "generate_content_request."} {
			out = append(out,
				promptPath{prefix + "systemInstruction.parts[*].text", "system"}, promptPath{prefix + "system_instruction.parts[*].text", "system"},
				promptPath{prefix + "contents[*].parts[*].text", ""},
				promptPath{prefix + "contents[*].parts[*].functionResponse.response.**", "tool"},
				promptPath{prefix + "contents[*].parts[*].function_response.response.**", "tool"},
				promptPath{prefix + "contents[*].parts[*].codeExecutionResult.output", "tool"},
			)
		}
		return out
	case respond, countInput:
		return []promptPath{
			{"instructions", "system"}, {"input", "user"}, {"input[*].content", ""}, {"input[*].content[*].text", ""}, {"input[*].content[*].refusal", ""},
			{"input[*].output", "tool"}, {"input[*].output[*].text", "tool"}, {"input[*].output[*].stdout", "tool"}, {"input[*].output[*].stderr", "tool"},
			{"prompt.variables.**", "user"},
		}
	case embed:
		return append(promptPaths(chat), promptPath{"title", "user"}) // of messages, too, which some that are like OpenAI embed
	case embedContent, embedContents:
		at := map[form]string{embedContents: "requests[*]."}[f]
		return []promptPath{
			{at + "content.parts[*].text", "user"}, {at + "title", "user"}, {at + "embedContentConfig.title", "user"}, {at + "embed_content_config.title", "user"},
		}
	default:
		return []promptPath{
			{"messages[*].content", ""}, {"messages[*].content[*].text", ""}, {"messages[*].content[*].refusal", ""}, {"messages[*].refusal", ""},
			{"prediction.content", "user"}, {"prediction.content[*].text", "user"}, {"prompt", "user"}, {"prompt[*]", "user"}, {"input", "user"}, {"input[*]", "user"},
		}
	}
}

// promptTexts are the paths of requests, by form.
var promptTexts = func() (out [clientForms]jsonpath.Paths) {
	for f := range out {
		var patterns []string
		for _, p := range promptPaths(form(f)) {
			patterns = append(patterns, p.path)
		}
		out[f] = jsonpath.Compile(patterns...)
	}
	return out
}()

// guardPrompt checks the texts of a request. It returns nil when they stay as they are.
func (q *query) guardPrompt(p *Policy, b *dialect.Body) ([]byte, error) {
	if p.Prompt == nil {
		return nil, nil
	}
	if q.op.form == embed && hasTokens(b.Get("input")) {
		return nil, invalid(dialect.Invalid("input", "it holds the ids of tokens, which can't be checked: send the text"))
	}
	places := promptTexts[q.op.form].Find(b.Raw)
	paths := promptPaths(q.op.form)
	roles := q.roles(b)
	texts := make([]guard.Message, len(places))
	for i := range places {
		role := paths[places[i].Pattern].role
		if role == "" && len(places[i].Indexes) > 0 && places[i].Indexes[0] < len(roles) {
			role = roles[places[i].Indexes[0]]
		}
		texts[i] = guard.Message{Role: role, Text: places[i].Text(b.Raw)}
	}
	out, err := p.Prompt.Check(credentialed(q.ctx, q.header), q.header, texts)
	if err != nil {
		return nil, err
	}
	return masked(b.Raw, places, texts, out), nil
}

// hasTokens reports whether what is to be embedded is something else than text.
func hasTokens(input jsontext.Value) (found bool) {
	dialect.Elements(dialect.Array(input), func(_ int, v jsontext.Value) { found = found || v.Kind() != '"' })
	return found
}

// masked returns a document with the texts that have changed; nil when none has.
func masked(doc []byte, places []jsonpath.Place, before, after []guard.Message) []byte {
	var changed []jsonpath.Place
	var texts []string
	for i := range places {
		if before[i].Text != after[i].Text {
			changed, texts = append(changed, places[i]), append(texts, after[i].Text)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return jsonpath.Replace(doc, changed, texts)
}

// roles returns whose each message of a request is.
func (q *query) roles(b *dialect.Body) (out []string) {
	name := "messages"
	switch q.op.form {
	case generate, countContents:
		name = "contents"
	case respond, countInput:
		name = "input"
	}
	elements := b.Get(name)
	if v := b.Get("generateContentRequest"); v != nil {
		dialect.Members(v, func(n string, v jsontext.Value) {
			if n == name {
				elements = v
			}
		})
	}
	dialect.Elements(dialect.Array(elements), func(_ int, v jsontext.Value) {
		role := "user"
		dialect.Members(v, func(n string, v jsontext.Value) {
			if n == "role" && len(dialect.Strings(v)) == 1 {
				role = dialect.Strings(v)[0]
			}
		})
		out = append(out, role)
	})
	return out
}
