package llm

import (
	"net/http"

	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/bedrock"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/openai"
	"github.com/mcpgw/mcpgw/llm/responses"
)

// A Vendor says whose API a provider is.
type Vendor uint8

// The vendors.
const (
	OpenAI Vendor = iota
	Anthropic
	Gemini
	AzureOpenAI
	VertexAI
	Bedrock
)

// String returns the vendor's gen_ai.provider.name.
func (v Vendor) String() string { return vendorOf(v).name() }

// Host returns the host at which the vendor's API is, which is reached by https on port
// 443; "" where that is for the configuration to say.
func (v Vendor) Host() string { return vendorOf(v).host() }

// A vendor is what package llm has to know of a [Vendor], a file each.
type vendor interface {
	name() string // gen_ai.provider.name, and whose signatures it makes
	host() string
	// speaks returns the dialect in which a model, "" if none is named, is asked what a
	// client asks in another; ok is false when it can't be asked.
	speaks(p *Provider, client form, model string) (f form, ok bool)
	// target returns path and query of an operation.
	target(p *Provider, f form, model string, stream bool) string
	// credential returns the header of a credential and what stands before it.
	credential(p *Provider, token string) (header, prefix string)
	// headers sets the further headers of a request.
	headers(a *attempt, out http.Header)
}

// A namer is a vendor that has names of its own for models.
type namer interface {
	// named returns the name by which p is asked for a model.
	named(p *Provider, f form, model string) string
}

// An originator is a vendor whose signatures are also others'.
type originator interface {
	// origin returns whose signatures it makes in an attempt.
	origin(a *attempt) string
}

// A patcher is a vendor that wants the body of a dialect in a way of its own.
type patcher interface {
	// patches returns what of a body in the attempt's dialect must change, and what of
	// the client's headers, which it says there, it can't express.
	patches(a *attempt, body *dialect.Body) (patches []dialect.Patch, dropped []string)
}

// A platform is a vendor that serves dialects of others, but not their errors.
type platform interface {
	// platformError returns the error that an answer is, if it is one of the platform's own.
	platformError(f form, status int, h http.Header, body []byte) *dialect.Error
}

// A meter is a vendor that says beside some answers what they took.
type meter interface {
	// metered returns the usage of an answer that does not say it itself.
	metered(h http.Header) dialect.Usage
}

// A framer is a vendor whose streams are not server-sent events.
type framer interface {
	framing() framing
}

// vendorOf returns the vendor of that number.
func vendorOf(v Vendor) vendor {
	switch v {
	case Anthropic:
		return anthropicAPI{}
	case Gemini:
		return geminiAPI{}
	case AzureOpenAI:
		return azureOpenAI{}
	case VertexAI:
		return vertexAI{}
	case Bedrock:
		return bedrockAPI{}
	default:
		return openAI{}
	}
}

// A form is a dialect in which an answer is asked for.
type form uint8

// The forms.
const (
	chat          form = iota // OpenAI's chat completions
	messages                  // Anthropic's Messages
	generate                  // Gemini's generateContent
	respond                   // OpenAI's Responses
	count                     // Anthropic's count of the tokens of a message
	countContents             // Gemini's countTokens
	countInput                // the count of the tokens of a response's input
	embed                     // OpenAI's embeddings
	embedContent              // Gemini's embedContent
	embedContents             // Gemini's batchEmbedContents
	clientForms               // how many there are that clients speak

	converse      // Bedrock's Converse
	countConverse // Bedrock's count of the tokens of a converse
	predict       // Vertex AI's embeddings of texts
	embedTitan    // Bedrock's embeddings, by the family of the model
	embedCohere
	embedNova
)

// counts reports whether f asks for a count of tokens instead of an answer.
func (f form) counts() bool {
	return f == count || f == countContents || f == countInput || f == countConverse
}

// embeds reports whether f asks for embeddings instead of an answer.
func (f form) embeds() bool {
	return f == embed || f == embedContent || f == embedContents || f >= predict && f <= embedNova
}

// pathNames reports whether the model stands in the path of a client's request.
func (f form) pathNames() bool {
	return f == generate || f == countContents || f == embedContent || f == embedContents
}

// native returns whose signatures stand in f without saying so.
func (f form) native() string {
	switch f {
	case messages, count:
		return anthropicAPI{}.name()
	case generate, countContents, embedContent, embedContents:
		return geminiAPI{}.name()
	default:
		return openAI{}.name()
	}
}

// A clientDialect is the side of a dialect that clients see.
type clientDialect interface {
	DecodeRequest(body []byte) (*dialect.Request, error)
	EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error)
	NewWriter(o dialect.WriterOptions) dialect.StreamWriter
	EncodeError(e *dialect.Error) []byte
}

// A providerDialect is the side that providers see.
type providerDialect interface {
	EncodeRequest(c *dialect.Carrier) ([]byte, error)
	DecodeResponse(body []byte) (*dialect.Response, error)
	NewReader() dialect.StreamReader
	DecodeError(status int, body []byte) *dialect.Error
}

// A codec is both sides of a dialect.
type codec interface {
	clientDialect
	providerDialect
}

// provider returns what speaks f with a provider, for one exchange.
func (f form) provider() providerDialect {
	switch f {
	case converse:
		return new(bedrock.Converse)
	case countConverse:
		return new(bedrock.CountTokens)
	case predict:
		return gemini.Predict{}
	case embedTitan:
		return new(bedrock.Titan)
	case embedCohere:
		return new(bedrock.Cohere)
	case embedNova:
		return new(bedrock.Nova)
	default:
		return f.codec()
	}
}

// codec returns what speaks f, a dialect that clients speak, too.
func (f form) codec() codec {
	switch f {
	case messages:
		return anthropic.Messages{}
	case generate:
		return gemini.GenerateContent{}
	case respond:
		return responses.Responses{}
	case count:
		return anthropic.CountTokens{}
	case countContents:
		return gemini.CountTokens{}
	case countInput:
		return responses.InputTokens{}
	case embed:
		return openai.Embeddings{}
	case embedContent:
		return gemini.EmbedContent{}
	case embedContents:
		return gemini.BatchEmbedContents{}
	default:
		return openai.Chat{}
	}
}

// operation returns the gen_ai.operation.name.
func (f form) operation() string {
	switch {
	case f.counts():
		return "count_tokens"
	case f.embeds():
		return "embeddings"
	case f == generate:
		return "generate_content"
	default:
		return "chat"
	}
}
