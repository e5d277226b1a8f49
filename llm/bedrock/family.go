package bedrock

import "strings"

// A family is whose model it is: what of a request is not the same for all models stands
// in fields that are the family's own.
type family uint8

// The families that have such fields.
const (
	unknown family = iota // the name says nothing, such as that of an application inference profile
	claude
	nova
	gpt    // OpenAI's models
	gptOSS // OpenAI's open ones, and what takes the same fields
	mistral
	others // known, and without fields of its own
)

// familyOf returns the family of a model: the id of a model or inference profile, or an ARN
// of one (User Guide, Supported foundation models).
func familyOf(model string) family {
	id := model[strings.LastIndexByte(model, '/')+1:]
	switch {
	case IsClaude(model):
		return claude
	case strings.Contains(id, "amazon.nova-"):
		return nova
	case strings.Contains(id, "openai.gpt-oss-"), strings.Contains(id, "moonshot"):
		return gptOSS
	case strings.Contains(id, "openai."):
		return gpt
	case strings.Contains(id, "mistral."):
		return mistral
	}
	for _, name := range [...]string{"amazon.", "ai21.", "cohere.", "deepseek.", "google.", "meta.", "minimax.", "nvidia.", "qwen.", "twelvelabs.", "writer.", "zai."} {
		if strings.Contains(id, name) {
			return others
		}
	}
	return unknown
}

// IsClaude reports whether a model is one of Anthropic's, which can be asked in the dialect of
// the Messages API, too.
func IsClaude(model string) bool {
	return strings.Contains(model[strings.LastIndexByte(model, '/')+1:], "anthropic.claude")
}

// caches reports whether the model may take cache points, and says of results whether
// they are errors.
func (f family) caches() bool { return f == claude || f == nova || f == unknown }
