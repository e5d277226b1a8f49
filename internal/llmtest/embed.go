package llmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genai"
)

// A contentEmbedding is what Google's client sends to have one content embedded: it has no type of
// its own.
type contentEmbedding struct {
	Model      string            `json:"model"`
	Content    *genai.Content    `json:"content"`
	TaskType   string            `json:"taskType"`
	Title      string            `json:"title"`
	Dimensions *int32            `json:"outputDimensionality"`
	Config     *embeddingSetting `json:"embedContentConfig"`
}

type embeddingSetting struct {
	TaskType     string `json:"taskType"`
	Title        string `json:"title"`
	Dimensions   *int32 `json:"outputDimensionality"`
	AutoTruncate *bool  `json:"autoTruncate"`
	DocumentOCR  *bool  `json:"documentOcr"`
	AudioTrack   *bool  `json:"audioTrackExtraction"`
}

// HoldsEmbedding reports why Google's own types can't hold the body of a request for embeddings,
// which the end of the path says the kind of.
func HoldsEmbedding(path string, body []byte) error {
	switch {
	case strings.HasSuffix(path, ":predict"):
		var r struct {
			Instances []struct {
				Content  *string `json:"content"`
				TaskType string  `json:"task_type"`
				Title    string  `json:"title"`
				MIMEType string  `json:"mimeType"`
			} `json:"instances"`
			Parameters *struct {
				Dimensions   *int32 `json:"outputDimensionality"`
				AutoTruncate *bool  `json:"autoTruncate"`
			} `json:"parameters"`
		}
		if err := strictly(body, &r); err != nil {
			return err
		}
		for i, in := range r.Instances {
			if in.Content == nil {
				return fmt.Errorf("instances[%d] has no content", i)
			}
		}
		if len(r.Instances) == 0 || len(r.Instances) > 250 || len(r.Instances) > 1 && strings.Contains(path, "gemini-embedding") {
			return fmt.Errorf("%d instance(s) are allowed per prediction", len(r.Instances))
		}
		return nil
	case strings.HasSuffix(path, ":batchEmbedContents"):
		var r struct {
			Requests []contentEmbedding `json:"requests"`
		}
		if err := strictly(body, &r); err != nil {
			return err
		}
		if len(r.Requests) == 0 || len(r.Requests) > 100 {
			return errors.New("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch")
		}
		_, model, _ := strings.Cut(strings.TrimSuffix(path, ":batchEmbedContents"), "/models/")
		for i := range r.Requests {
			if r.Requests[i].Model != "models/"+model {
				return fmt.Errorf("* BatchEmbedContentsRequest.requests[%d].model: unexpected model name format %q", i, r.Requests[i].Model)
			}
			if err := r.Requests[i].holds(); err != nil {
				return err
			}
		}
		return nil
	default:
		var r contentEmbedding
		if err := strictly(body, &r); err != nil {
			return err
		}
		if vertex := strings.Contains(path, "/publishers/"); vertex && r.Model != "" || !vertex && r.Config != nil {
			return errors.New("invalid JSON payload received. Unknown name \"model\" or \"embedContentConfig\"")
		}
		return r.holds()
	}
}

// holds checks what Google wants beside its types.
func (r *contentEmbedding) holds() error {
	if r.Content == nil || len(r.Content.Parts) == 0 {
		return errors.New("* EmbedContentRequest.content: contents is not specified")
	}
	return nil
}

// contentEmbeddings answers one vector for each content or text.
func contentEmbeddings(d Dialect, request []byte) []byte {
	var r struct {
		Requests, Instances []json.RawMessage
	}
	_ = json.Unmarshal(request, &r) // was checked
	if d == Predict {
		one := `{"embeddings":{"values":[0.25,-0.5,1],"statistics":{"truncated":false,"token_count":9}}}`
		return fmt.Appendf(nil, `{"predictions":[%s],"metadata":{"billableCharacterCount":1}}`, strings.Join(slices.Repeat([]string{one}, len(r.Instances)), ","))
	}
	one := `{"values":[0.25,-0.5,1]}`
	return fmt.Appendf(nil, `{"embeddings":[%s],"usageMetadata":{"promptTokenCount":9}}`, strings.Join(slices.Repeat([]string{one}, len(r.Requests)), ","))
}

// strictly decodes what has no member that typed does not have, but for the sentinel.
func strictly(body []byte, typed any) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return err
	}
	delete(all, Sentinel)
	body, err := json.Marshal(all)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(typed)
}
