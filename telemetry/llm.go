package telemetry

import "time"

// LLM is the part of a [Record] that only requests to language models fill in. Names
// are those of OpenTelemetry's conventions for generative AI.
type LLM struct {
	Operation     string // gen_ai.operation.name: chat, generate_content, …
	Provider      string // gen_ai.provider.name: openai, anthropic, aws.bedrock, …
	Name          string // the provider's name in its priority group, "" when it has none
	RequestModel  string // that the client asked for
	SentModel     string // that the provider was asked for
	ResponseModel string // that answered
	Stream        bool
	FinishReason  string
	Usage         TokenUsage
	// FirstContent is the time until the first content; 0 when there was none.
	FirstContent time.Duration
	Dropped      string // fields that the other side's dialect can't express, of the request and, behind "answer.", of the answer; with commas
}

// A TokenUsage is what an answer cost. Input includes what came from a cache and what was
// written to one, Output includes reasoning.
type TokenUsage struct {
	Known                                           bool
	Input, Output, CacheRead, CacheWrite, Reasoning int64
}
