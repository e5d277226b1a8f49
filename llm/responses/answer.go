package responses

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of an answer.
type (
	response struct {
		ID         string         `json:"id"`
		Object     string         `json:"object"`
		CreatedAt  jsontext.Value `json:"created_at"` // seconds, with a fraction at some
		Status     string         `json:"status"`     // completed, incomplete, failed, in_progress
		Error      *responseError `json:"error"`
		Incomplete *incomplete    `json:"incomplete_details"`
		Model      string         `json:"model"`
		Output     []item         `json:"output"`
		Usage      *usage         `json:"usage"`
		// What every answer holds, of the request and of the provider's memory.
		Instructions  jsontext.Value `json:"instructions"`
		Metadata      jsontext.Value `json:"metadata"`
		ParallelTools jsontext.Value `json:"parallel_tool_calls"`
		Temperature   jsontext.Value `json:"temperature"`
		TopP          jsontext.Value `json:"top_p"`
		ToolChoice    jsontext.Value `json:"tool_choice"`
		Tools         jsontext.Value `json:"tools"`
		Rest          jsontext.Value `json:",embed"`
	}
	responseError struct {
		Code    string         `json:"code"`
		Message string         `json:"message"`
		Rest    jsontext.Value `json:",embed"`
	}
	incomplete struct {
		Reason string         `json:"reason"`
		Rest   jsontext.Value `json:",embed"`
	}
	usage struct {
		Input        int64         `json:"input_tokens"`
		InputDetails inputDetails  `json:"input_tokens_details"`
		Output       int64         `json:"output_tokens"`
		Details      outputDetails `json:"output_tokens_details"`
		Total        int64         `json:"total_tokens"`
	}
	inputDetails struct {
		Cached int64 `json:"cached_tokens"`
	}
	outputDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	}
)

func (u *usage) canonical() dialect.Usage {
	if u == nil {
		return dialect.Usage{}
	}
	return dialect.Usage{Known: true, Input: u.Input, Output: u.Output, CacheRead: u.InputDetails.Cached, Reasoning: u.Details.Reasoning}
}

func usageOf(u dialect.Usage) *usage {
	if !u.Known {
		return nil
	}
	return &usage{Input: u.Input, InputDetails: inputDetails{u.CacheRead}, Output: u.Output, Details: outputDetails{u.Reasoning}, Total: u.Total()}
}

// reason reads why an answer ended. called says that a function is to be called, of which
// the status says nothing.
func (r *response) reason(called bool) dialect.StopReason {
	switch {
	case r.Incomplete != nil && r.Incomplete.Reason == "content_filter":
		return dialect.StopFilter
	case r.Status == "incomplete":
		return dialect.StopLength
	case called:
		return dialect.StopTools
	default:
		return dialect.StopEnd
	}
}

func (e *responseError) canonical() *dialect.Error {
	out := &dialect.Error{Status: 500, Message: e.Message, Code: e.Code, Type: e.Code}
	switch e.Code {
	case "rate_limit_exceeded":
		out.Status = 429
	case "invalid_prompt", "invalid_image", "context_length_exceeded":
		out.Status = 400
	}
	if out.Message == "" {
		out.Message = "the provider failed"
	}
	return out
}

var errNoResponse = errors.New("the answer is no response that has ended")

// DecodeResponse reads a provider's answer.
func (Responses) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire response
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Error != nil {
		return nil, wire.Error.canonical()
	}
	if wire.Object != "response" || wire.Status != "completed" && wire.Status != "incomplete" {
		return nil, errNoResponse
	}
	var a dialect.Answer
	r := &dialect.Response{ID: wire.ID, Model: wire.Model, Created: dialect.Int(wire.CreatedAt), Usage: wire.Usage.canonical()}
	wire.leftover(func(at string) { r.Lost = append(r.Lost, at) })
	called := false
	for i := range wire.Output {
		parts := answerParts(&wire.Output[i], i, func(at string) { r.Lost = append(r.Lost, at) })
		for _, p := range parts {
			called = called || p.Kind == dialect.ToolCall
		}
		a.Parts = append(a.Parts, parts...)
	}
	a.Reason = wire.reason(called)
	r.Choices = []dialect.Answer{a}
	return r, nil
}

// leftover calls lost with the places of what an answer says beside its items, and does not
// say of the request again.
func (r *response) leftover(lost func(at string)) {
	dialect.Leftover(r.Rest, "", func(at string) {
		switch at {
		case "background", "billing", "completed_at", "conversation", "max_output_tokens", "max_tool_calls", "output_text", "previous_response_id",
			"prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier",
			"store", "text", "top_logprobs", "truncation", "user", "frequency_penalty", "presence_penalty":
		default:
			lost(at)
		}
	})
}

func itemPath(index int) string { return "output[" + strconv.Itoa(index) + "]" }

// answerParts returns the parts of the item of that index; none for those of the provider's own
// tools. lost is told what has no part.
func answerParts(i *item, index int, lost func(at string)) (out []dialect.Part) {
	switch i.Type {
	case "message":
		dialect.Elements(i.Content, func(n int, v jsontext.Value) {
			path := itemPath(index) + ".content[" + strconv.Itoa(n) + "]"
			var p part
			if json.Unmarshal(v, &p) != nil {
				lost(path)
				return
			}
			dialect.Leftover(p.Rest, path, lost)
			switch {
			case p.Type == "output_text" && p.Text != nil:
				text := dialect.Part{Kind: dialect.Text, Text: *p.Text, LogProbs: probabilities(p.LogProbs)}
				if text.LogProbs != nil {
					text.LogAt = path + ".logprobs"
				}
				dialect.Elements(p.Annotations, func(i int, v jsontext.Value) {
					if c, ok := citation(v, annotationPath(path, i), lost); ok {
						text.Citations = append(text.Citations, c)
					}
				})
				out = append(out, text)
			case p.Type == "refusal" && p.Refusal != nil:
				out = append(out, dialect.Part{Kind: dialect.Refusal, Text: *p.Refusal})
			default:
				lost(path)
			}
		})
	case "function_call":
		p := dialect.Part{Kind: dialect.ToolCall, ID: i.CallID, Name: i.Name, Text: "{}"}
		if i.Arguments != nil && *i.Arguments != "" {
			p.Text = *i.Arguments
		}
		out = append(out, p)
	case "reasoning":
		p := decodeReasoning(i, "")
		p.Origin = ""
		if p.Text != "" || p.Signature != "" {
			out = append(out, p)
		}
	case "image_generation_call":
		p, ok := picture(i, index)
		if !ok {
			lost(itemPath(index))
			return nil
		}
		out = append(out, p)
	default:
		lost(itemPath(index))
		return nil
	}
	dialect.Leftover(i.Rest, itemPath(index), lost)
	return out
}

// picture returns the picture that was made; ok is false if there is none.
func picture(i *item, index int) (p dialect.Part, ok bool) {
	if i.Result == "" {
		return p, false
	}
	return dialect.Part{Kind: dialect.Image, Path: itemPath(index), Media: dialect.Media{Type: "image/" + cmp.Or(i.Format, "png"), Data: i.Result}}, true
}

// EncodeResponse writes an answer to a client.
func (Responses) EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error) {
	a := &r.Choices[0]
	for i := range r.Choices[1:] {
		o.LoseChoice(i + 1)
	}
	w := writer{options: o}
	w.start(r.ID, r.Model, r.Created)
	for i := range a.Parts {
		p := a.Parts[i]
		if !w.begin(&p) {
			continue
		}
		w.text.WriteString(p.Text)
		for k := range p.Citations {
			w.cite(&p.Citations[k])
		}
		w.addLogProbs(p.LogProbs, p.LogAt)
		if p.Kind == dialect.Text {
			o.Lose(p.SignedAt)
		}
		w.signature = p.Signature
		w.output = append(w.output, w.item("completed"))
	}
	return json.Marshal(w.response(a.Reason, r.Usage))
}

// newResponse returns an answer that is under way.
func newResponse(id, model string, created int64) *response {
	if id == "" {
		id = strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	if created == 0 {
		created = time.Now().Unix()
	}
	if !strings.HasPrefix(id, "resp_") {
		id = "resp_" + id
	}
	null := jsontext.Value("null")
	return &response{
		ID: id, Object: "response", CreatedAt: dialect.Number(created), Status: "in_progress", Model: model, Output: []item{},
		Instructions: null, Metadata: jsontext.Value("{}"), ParallelTools: jsontext.Value("true"), Temperature: null, TopP: null,
		ToolChoice: jsontext.Value(`"auto"`), Tools: jsontext.Value("[]"),
	}
}
