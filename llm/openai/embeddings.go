package openai

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Embeddings is the API of that name (API reference, Create embeddings).
type Embeddings struct{ Chat }

// The wire of it.
type (
	embedRequest struct {
		Model  string         `json:"model"`
		Input  jsontext.Value `json:"input"`
		Format *string        `json:"encoding_format,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	embedResponse struct {
		Object string         `json:"object"`
		Data   []embedding    `json:"data"`
		Model  string         `json:"model"`
		Usage  *embedUsage    `json:"usage,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	embedding struct {
		Object    string         `json:"object"`
		Index     int            `json:"index"`
		Embedding jsontext.Value `json:"embedding"`
		Rest      jsontext.Value `json:",embed"`
	}
	embedUsage struct {
		PromptTokens int64          `json:"prompt_tokens"`
		TotalTokens  int64          `json:"total_tokens"`
		Rest         jsontext.Value `json:",embed"`
	}
)

// embedFields are the members that other dialects have, too.
var embedFields = [][2]string{{"dimensions", dialect.Dimensions}, {"user", dialect.User}}

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (Embeddings) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire embedRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	r := &dialect.Request{}
	switch {
	case wire.Format == nil, *wire.Format == "float":
	case *wire.Format == "base64":
		r.Base64 = true
	default:
		return nil, dialect.Invalid("encoding_format", "it is neither float nor base64")
	}
	inputs, err := decodeInputs(wire.Input)
	if err != nil {
		return nil, err
	}
	r.Inputs = inputs
	r.Unknown(wire.Rest, "", embedFields)
	r.Fields = hints(r)
	return r, nil
}

// decodeInputs reads what is to be embedded: one text or the ids of its tokens, or an array of
// those.
func decodeInputs(v jsontext.Value) (out []dialect.Input, err error) {
	if v.Kind() != '[' {
		in, err := decodeInput("input", v)
		return []dialect.Input{in}, err
	}
	tokens := false // they are the ids of one
	dialect.Elements(v, func(i int, e jsontext.Value) {
		if tokens = tokens || e.Kind() == '0'; tokens || err != nil {
			return
		}
		var in dialect.Input
		if in, err = decodeInput(fmt.Sprintf("input[%d]", i), e); err == nil {
			out = append(out, in)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case tokens:
		in, err := decodeInput("input", v)
		return []dialect.Input{in}, err
	case len(out) == 0:
		return nil, dialect.Invalid("input", "it is empty")
	case len(out) > dialect.MaxInputs:
		return nil, dialect.Invalid("input", fmt.Sprintf("it holds more than %d texts", dialect.MaxInputs))
	}
	return out, nil
}

// decodeInput reads one text, or the ids of its tokens.
func decodeInput(path string, v jsontext.Value) (dialect.Input, error) {
	in := dialect.Input{Path: path}
	switch v.Kind() {
	case '"':
		in.Parts = []dialect.Part{{Kind: dialect.Text, Path: path, Text: dialect.Strings(v)[0]}}
		return in, nil
	case '[':
		var ids []uint32
		if json.Unmarshal(v, &ids) == nil && len(ids) > 0 {
			in.Tokens = v
			return in, nil
		}
	}
	return in, dialect.Invalid(path, "it is neither a text nor the ids of its tokens")
}

// hints gives the inputs what the fields say of them, which clients of Cohere and of Google add
// to this dialect, and returns the other fields.
func hints(r *dialect.Request) (rest []dialect.Field) {
	for _, f := range r.Fields {
		var of func(*dialect.Input) *dialect.Hint
		switch f.Name {
		case "input_type", "task_type", "taskType":
			of = func(in *dialect.Input) *dialect.Hint { return &in.Task }
		case "title":
			of = func(in *dialect.Input) *dialect.Hint { return &in.Title }
		}
		if of == nil || f.Value.Kind() != '"' || of(&r.Inputs[0]).Path != "" {
			rest = append(rest, f)
			continue
		}
		hint := dialect.Hint{Text: dialect.Strings(f.Value)[0], Path: f.Path}
		if f.Name != "title" {
			hint.Text = dialect.TaskOf(hint.Text)
		}
		for i := range r.Inputs {
			*of(&r.Inputs[i]) = hint
		}
	}
	return rest
}

// EncodeRequest writes a request to a provider of this dialect. What can't be carried is
// noted in c.
func (Embeddings) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	var inputs []jsontext.Value
	for i := range c.Inputs {
		in := &c.Inputs[i]
		c.Drop(in.Task.Path)
		c.Drop(in.Title.Path)
		if in.Tokens != nil {
			inputs = append(inputs, in.Tokens)
			continue
		}
		text, err := in.Text()
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, dialect.String(text))
	}
	format := "float"
	wire := embedRequest{Model: c.Model, Format: &format}
	var err error
	if wire.Input, err = json.Marshal(inputs); err != nil {
		return nil, err
	}
	var rest dialect.Object
	rest.SetFields(c, embedFields)
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

var errNoEmbeddings = errors.New("the answer holds no embeddings")

// DecodeResponse reads a provider's answer.
func (Embeddings) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire embedResponse
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if len(wire.Data) == 0 {
		return nil, errNoEmbeddings
	}
	r := &dialect.Response{Model: wire.Model, Vectors: make([]dialect.Vector, len(wire.Data))}
	numbered := true // not all that are like OpenAI do so
	for i := range wire.Data {
		d := &wire.Data[i]
		if numbered = numbered && d.Index >= 0 && d.Index < len(r.Vectors) && r.Vectors[d.Index].Values == nil; numbered {
			r.Vectors[d.Index].Values = d.Embedding
		}
		r.Lose(d.Rest, fmt.Sprintf("data[%d]", i))
	}
	for i := range wire.Data {
		if !numbered {
			r.Vectors[i].Values = wire.Data[i].Embedding
		}
	}
	if wire.Usage != nil {
		r.Usage = dialect.Usage{Known: true, Input: wire.Usage.PromptTokens}
		r.Lose(wire.Usage.Rest, "usage")
	}
	r.Lose(wire.Rest, "")
	return r, nil
}

// EncodeResponse writes an answer to a client.
func (Embeddings) EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error) {
	wire := embedResponse{Object: "list", Data: make([]embedding, len(r.Vectors)), Model: r.Model, Usage: &embedUsage{}}
	for i, v := range r.Vectors {
		wire.Data[i] = embedding{Object: "embedding", Index: i, Embedding: v.Values}
		if o.Base64 {
			text, err := v.Base64()
			if err != nil {
				return nil, err
			}
			wire.Data[i].Embedding = dialect.String(text)
		}
	}
	wire.Usage.PromptTokens, wire.Usage.TotalTokens = r.Usage.Input, r.Usage.Input // its clients want the member
	return json.Marshal(wire)
}
