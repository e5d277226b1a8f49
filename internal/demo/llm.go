package demo

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// maxChat bounds the body of a chat completion request.
const maxChat = 1 << 20

// An llm answers OpenAI's chat completions by saying the last user message back.
// A token is a word.
type llm struct {
	now func() time.Time
}

func newLLM(now func() time.Time) http.Handler {
	l := &llm{now: now}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", l.models)
	mux.HandleFunc("POST /v1/chat/completions", l.chat)
	return mux
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type chatMessage struct {
	Role    string `json:"role,omitzero"`
	Content any    `json:"content,omitzero"` // a string, or a list of parts of which the text ones count
}

type chatRequest struct {
	Model         string        `json:"model"`
	Messages      []chatMessage `json:"messages"`
	Stream        bool          `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type choice struct {
	Index        int          `json:"index"`
	Message      *chatMessage `json:"message,omitzero"`
	Delta        *chatMessage `json:"delta,omitzero"`
	FinishReason *string      `json:"finish_reason"`
}

type chatReply struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitzero"`
}

func (l *llm) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list",
		"data":   []model{{ID: "mock", Object: "model", Created: l.now().Unix(), OwnedBy: "mcpgw"}},
	})
}

func (l *llm) chat(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChat))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, "the request is larger than 1 MiB")
		return
	}
	if err := json.Unmarshal(body, &req); err != nil {
		writeError(w, http.StatusBadRequest, "the request is not a chat completion: "+err.Error())
		return
	}
	if req.Model == "" || len(req.Messages) == 0 {
		writeError(w, http.StatusBadRequest, "model and messages are required")
		return
	}
	var said string
	var used usage
	for _, m := range req.Messages {
		words := contentText(m.Content)
		used.PromptTokens += len(strings.Fields(words))
		if m.Role == "user" {
			said = words
		}
	}
	used.CompletionTokens = len(strings.Fields(said))
	used.TotalTokens = used.PromptTokens + used.CompletionTokens
	reply := chatReply{ID: fmt.Sprintf("chatcmpl-%d", l.now().UnixNano()), Created: l.now().Unix(), Model: req.Model}
	stop := "stop"
	if !req.Stream {
		reply.Object = "chat.completion"
		reply.Choices = []choice{{Message: &chatMessage{Role: "assistant", Content: said}, FinishReason: &stop}}
		reply.Usage = &used
		writeJSON(w, http.StatusOK, reply)
		return
	}
	reply.Object = "chat.completion.chunk"
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	for i, word := range strings.SplitAfter(said, " ") {
		delta := &chatMessage{Content: word}
		if i == 0 {
			delta.Role = "assistant"
		}
		reply.Choices = []choice{{Delta: delta}}
		if writeEvent(w, reply) != nil {
			return
		}
	}
	reply.Choices = []choice{{Delta: &chatMessage{}, FinishReason: &stop}}
	if writeEvent(w, reply) != nil {
		return
	}
	if req.StreamOptions.IncludeUsage {
		reply.Choices, reply.Usage = []choice{}, &used
		if writeEvent(w, reply) != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// contentText returns the text of a message's content.
func contentText(content any) string {
	switch c := content.(type) {
	case string:
		return c
	case []any:
		var texts []string
		for _, part := range c {
			if p, ok := part.(map[string]any); ok {
				if t, ok := p["text"].(string); ok {
					texts = append(texts, t)
				}
			}
		}
		return strings.Join(texts, "\n")
	default:
		return ""
	}
}

func writeEvent(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{
		"message": message, "type": "invalid_request_error", "param": nil, "code": nil,
	}})
}
