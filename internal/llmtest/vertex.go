package llmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// vertexPlace is where the models of Vertex AI are, of the project and the location that
// [Provider] names.
const vertexPlace = "/v1beta1/projects/p-1/locations/us-east5/publishers/"

// vertexOperation returns what Vertex AI is asked for by a path.
func vertexOperation(v Vendor, r *http.Request) (d Dialect, stream bool, err error) {
	rest, ok := strings.CutPrefix(r.URL.Path, vertexPlace)
	model, method, _ := strings.Cut(rest, ":")
	sse := r.URL.RawQuery == "alt=sse"
	switch v {
	case VertexClaude:
		switch {
		case ok && model == "anthropic/models/count-tokens" && method == "rawPredict":
			return Count, false, nil
		case !ok || model != "anthropic/models/"+vertexModels[v]:
		case method == "rawPredict":
			return Messages, false, nil
		case method == "streamRawPredict":
			return Messages, true, nil
		}
		return Messages, false, fmt.Errorf("Vertex AI has no %s", r.URL)
	default:
		switch {
		case ok && model == "google/models/text-embedding-005" && method == "predict":
			return Predict, false, nil
		case !ok || model != "google/models/"+vertexModels[v]:
		case method == "generateContent":
			return Generate, false, nil
		case method == "streamGenerateContent" && sse:
			return Generate, true, nil
		case method == "countTokens":
			return Count, false, nil
		}
		return Generate, false, fmt.Errorf("Vertex AI has no %s", r.URL)
	}
}

// vertexModels are the models that [Provider] names.
var vertexModels = map[Vendor]string{VertexGemini: "gemini-3-pro", VertexClaude: "claude-sonnet-4-5"}

// vertexFields are the further fields that a Backend has of Vertex AI.
func vertexFields(v Vendor) string {
	return ", model: " + vertexModels[v] + ", project: p-1, location: us-east5"
}

// vertexClaude returns the body of a request for Claude as Anthropic has it: the model stands in
// the path here, and the version of the API in the body.
func vertexClaude(body []byte) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if string(m["anthropic_version"]) != `"vertex-2023-10-16"` {
		return nil, errors.New("anthropic_version: Field required")
	}
	if m["model"] != nil {
		return nil, errors.New("model: Extra inputs are not permitted")
	}
	delete(m, "anthropic_version")
	m["model"] = json.RawMessage(`"` + vertexModels[VertexClaude] + `"`)
	return json.Marshal(m)
}
