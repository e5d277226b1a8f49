package telemetry

import "time"

// LLM is the part of a [Record] that only requests to language models fill in. Names
// are those of OpenTelemetry's conventions for generative AI.
type LLM struct {
	Operation     string // gen_ai.operation.name: chat, generate_content, embeddings, …
	Provider      string // gen_ai.provider.name: openai, anthropic, aws.bedrock, …
	Name          string // the provider's name in its priority group, "" when it has none
	RequestModel  string // that the client asked for
	SentModel     string // that the provider was asked for
	ResponseModel string // that answered
	Stream        bool
	// Dimensions and Encoding are what a client of embeddings asks for; 0 and "" when it does not say.
	Dimensions   int64
	Encoding     string
	FinishReason string
	Usage        TokenUsage
	// FirstContent is the time until the first content; 0 when there was none.
	FirstContent time.Duration
	// FirstToken is the time from the request to the provider until then, Streaming from then to the end
	// of a whole stream; 0 when it is not known.
	FirstToken, Streaming time.Duration
	// Cost is what the answer costs by list prices, in billionths of a US dollar, once Priced.
	Cost    int64
	Priced  bool
	Dropped string // fields that the other side's dialect can't express, of the request and, behind "answer.", of the answer; with commas
}

// A TokenUsage is how many tokens an answer took. Input includes what came from a cache, what was
// written to one and sound, Output includes reasoning and sound. CacheWriteHour is of CacheWrite.
type TokenUsage struct {
	Known                                 bool
	Input, Output                         int64
	CacheRead, CacheWrite, CacheWriteHour int64
	Reasoning                             int64
	AudioInput, AudioOutput               int64
}
