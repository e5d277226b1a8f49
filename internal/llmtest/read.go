package llmtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"
)

// A Told is an error that a stream ends with, in the words of its dialect.
type Told struct{ Message string }

// Error implements error.
func (e *Told) Error() string { return "the stream ends with an error: " + e.Message }

// Read reads an answer that is not streamed with the types of the dialect's vendor and
// returns its text: that of [Hello] where it is embedded as [Vector].
func (d Dialect) Read(body []byte) (string, error) {
	switch d {
	case Responses:
		var r responses.Response
		if err := json.Unmarshal(body, &r); err != nil {
			return "", err
		}
		if r.Status != responses.ResponseStatusCompleted {
			return "", fmt.Errorf("the status is %q", r.Status)
		}
		return r.OutputText(), nil
	case Messages:
		var m anthropic.Message
		if err := json.Unmarshal(body, &m); err != nil {
			return "", err
		}
		return messageText(&m)
	case Generate:
		var r genai.GenerateContentResponse
		if err := json.Unmarshal(body, &r); err != nil {
			return "", err
		}
		if len(r.Candidates) == 0 || r.Candidates[0].FinishReason == "" {
			return "", errors.New("there is no finishReason")
		}
		return r.Text(), nil
	case Embeddings:
		var r openai.CreateEmbeddingResponse
		if err := json.Unmarshal(body, &r); err != nil || len(r.Data) != 1 {
			return "", fmt.Errorf("there is not one embedding: %w", cmp.Or(err, errNoAnswer))
		}
		return embedded(r.Data[0].Embedding)
	case Contents:
		var r genai.EmbedContentResponse
		if err := json.Unmarshal(body, &r); err != nil || len(r.Embeddings) != 1 {
			return "", fmt.Errorf("there is not one embedding: %w", cmp.Or(err, errNoAnswer))
		}
		return embedded(r.Embeddings[0].Values)
	default:
		var c openai.ChatCompletion
		if err := json.Unmarshal(body, &c); err != nil {
			return "", err
		}
		if len(c.Choices) == 0 || c.Choices[0].FinishReason == "" {
			return "", errors.New("there is no finish_reason")
		}
		return c.Choices[0].Message.Content, nil
	}
}

var errNoAnswer = errors.New("that is no answer")

// embedded returns the text that is embedded so.
func embedded[F float32 | float64](values []F) (string, error) {
	same := len(values) == len(Vector)
	for i := range values {
		same = same && float32(values[i]) == Vector[i]
	}
	if !same {
		return "", fmt.Errorf("nothing is embedded as %v", values)
	}
	return Hello.Text, nil
}

func messageText(m *anthropic.Message) (text string, err error) {
	for i := range m.Content {
		text += m.Content[i].Text
	}
	if m.StopReason == "" {
		err = errors.New("there is no stop_reason")
	}
	return text, err
}

// ReadError reads an error that answers a request, and returns its message.
func (d Dialect) ReadError(body []byte) (string, error) {
	var e struct {
		Type  string `json:"type"`
		Error struct {
			Message, Status, Type string
			Code                  json.RawMessage
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return "", err
	}
	switch {
	case e.Error.Message == "",
		d == Messages && (e.Type != "error" || e.Error.Type == ""),
		(d == Generate || d == Contents) && (e.Error.Status == "" || len(e.Error.Code) == 0),
		(d == Chat || d == Responses || d == Embeddings) && e.Error.Type == "":
		return "", fmt.Errorf("no error of %s: %s", d, body)
	}
	return e.Error.Message, nil
}

// ReadStream reads the events of a stream with the types and accumulators of the
// dialect's vendor, and returns the text that came. The error is a [*Told] when the stream
// says itself how it failed, and nil only when it is whole.
func (d Dialect) ReadStream(body []byte) (string, error) {
	var datas [][]byte
	var told error
	body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	for event := range bytes.SplitSeq(body, []byte("\n\n")) {
		for line := range bytes.SplitSeq(event, []byte("\n")) {
			data, ok := bytes.CutPrefix(line, []byte("data: "))
			if !ok {
				continue
			}
			if told != nil {
				return "", errors.New("the stream goes on after an error")
			}
			if message, ok := d.errorEvent(data); ok {
				told = &Told{message}
				continue
			}
			datas = append(datas, data)
		}
	}
	var text string
	var err error
	switch d {
	case Responses:
		text, err = readResponses(datas)
	case Messages:
		text, err = readMessages(datas)
	case Generate:
		text, err = readGenerated(datas)
	default:
		text, err = readChat(datas)
	}
	if told != nil {
		if err == nil {
			return text, errors.New("the stream is whole, and ends with an error")
		}
		return text, told
	}
	return text, err
}

// errorEvent returns the message of an error in a stream.
func (d Dialect) errorEvent(data []byte) (string, bool) {
	if d == Responses {
		var e struct{ Type, Message string }
		if json.Unmarshal(data, &e) == nil && e.Type == "error" && e.Message != "" {
			return e.Message, true
		}
		var f struct {
			Type     string
			Response struct{ Error struct{ Message string } }
		}
		if json.Unmarshal(data, &f) == nil && f.Type == "response.failed" && f.Response.Error.Message != "" {
			return f.Response.Error.Message, true
		}
		return "", false
	}
	message, err := d.ReadError(data)
	return message, err == nil
}

func readChat(datas [][]byte) (text string, err error) {
	var acc openai.ChatCompletionAccumulator
	content := func() string {
		if len(acc.Choices) == 0 {
			return ""
		}
		return acc.Choices[0].Message.Content
	}
	for i, data := range datas {
		if string(data) == "[DONE]" {
			switch {
			case i != len(datas)-1:
				return content(), errors.New("the stream goes on after [DONE]")
			case len(acc.Choices) == 0 || acc.Choices[0].FinishReason == "":
				return content(), errors.New("[DONE] without a finish_reason")
			}
			return content(), nil
		}
		var chunk openai.ChatCompletionChunk
		if err := json.Unmarshal(data, &chunk); err != nil {
			return content(), err
		}
		if !acc.AddChunk(chunk) {
			return content(), fmt.Errorf("a chunk does not fit: %s", data)
		}
	}
	return content(), errors.New("there is no [DONE]")
}

func readMessages(datas [][]byte) (string, error) {
	var m anthropic.Message
	for i, data := range datas {
		var e anthropic.MessageStreamEventUnion
		err := json.Unmarshal(data, &e)
		if err == nil {
			err = m.Accumulate(e)
		}
		text, _ := messageText(&m)
		if err != nil {
			return text, err
		}
		if e.Type == "message_stop" {
			if i != len(datas)-1 {
				return text, errors.New("the stream goes on after message_stop")
			}
			return messageText(&m)
		}
	}
	text, _ := messageText(&m)
	return text, errors.New("there is no message_stop")
}

func readGenerated(datas [][]byte) (text string, err error) {
	err = errors.New("there is no finishReason")
	for _, data := range datas {
		var r genai.GenerateContentResponse
		if err := json.Unmarshal(data, &r); err != nil {
			return text, err
		}
		text += r.Text()
		for _, c := range r.Candidates {
			if c.FinishReason != "" {
				err = nil
			}
		}
	}
	return text, err
}

func readResponses(datas [][]byte) (text string, err error) {
	for i, data := range datas {
		var e responses.ResponseStreamEventUnion
		if err := json.Unmarshal(data, &e); err != nil {
			return text, err
		}
		if e.SequenceNumber != int64(i) {
			return text, fmt.Errorf("event %d has the number %d", i, e.SequenceNumber)
		}
		switch e.Type {
		case "response.output_text.delta":
			text += e.Delta
		case "response.completed":
			if i != len(datas)-1 {
				return text, errors.New("the stream goes on after response.completed")
			}
			if e.Response.OutputText() != text {
				return text, fmt.Errorf("response.completed says %q", e.Response.OutputText())
			}
			return text, nil
		}
	}
	return text, errors.New("there is no response.completed")
}
