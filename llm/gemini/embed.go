package gemini

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// EmbedContent is the API of that name (API reference, models.embedContent, also that of Vertex
// AI): it embeds one content.
type EmbedContent struct{ GenerateContent }

// BatchEmbedContents is the API of that name (API reference, models.batchEmbedContents): many
// requests of [EmbedContent] in one.
type BatchEmbedContents struct{ GenerateContent }

// The wire of both.
type (
	embedRequest struct {
		Model   string   `json:"model,omitzero"` // models/NAME
		Content *content `json:"content"`
		embedSettings
		Config *embedSettings `json:"embedContentConfig,omitzero"`
	}
	// embedSettings stand beside the content, or in a member of their own.
	embedSettings struct {
		TaskType   string         `json:"taskType,omitzero"`
		Title      string         `json:"title,omitzero"`
		Dimensions jsontext.Value `json:"outputDimensionality,omitzero"`
		Rest       jsontext.Value `json:",embed"`
	}
	batchRequest struct {
		Requests []embedRequest `json:"requests"`
		Rest     jsontext.Value `json:",embed"`
	}
	embedResponse struct {
		Embedding *vector        `json:"embedding"`
		Usage     *embedUsage    `json:"usageMetadata,omitzero"`
		Rest      jsontext.Value `json:",embed"`
	}
	batchResponse struct {
		Embeddings []vector       `json:"embeddings"`
		Usage      *embedUsage    `json:"usageMetadata,omitzero"`
		Rest       jsontext.Value `json:",embed"`
	}
	vector struct {
		Values jsontext.Value `json:"values"`
		Rest   jsontext.Value `json:",embed"`
	}
	embedUsage struct {
		Prompt int64 `json:"promptTokenCount"`
		Total  int64 `json:"totalTokenCount,omitzero"`
		// Details are written in either way.
		Details  modalities     `json:"promptTokenDetails,omitzero"`
		Details2 modalities     `json:"promptTokensDetails,omitzero"`
		Rest     jsontext.Value `json:",embed"`
	}
)

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (EmbedContent) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire embedRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	d := decoder{Request: &dialect.Request{}}
	err := d.input(&wire, "")
	return d.Request, err
}

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (BatchEmbedContents) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire batchRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	switch n := len(wire.Requests); {
	case n == 0:
		return nil, dialect.Invalid("requests", "requests is empty")
	case n > dialect.MaxInputs:
		return nil, dialect.Invalid("requests", "requests holds more than "+strconv.Itoa(dialect.MaxInputs)+" requests")
	}
	d := decoder{Request: &dialect.Request{}}
	for i := range wire.Requests {
		if err := d.input(&wire.Requests[i], "requests["+strconv.Itoa(i)+"]."); err != nil {
			return nil, err
		}
	}
	d.Unknown(wire.Rest, "")
	return d.Request, nil
}

// input reads one request, which stands at a path that is "" or ends in a dot. All have to be
// of one model and of as many dimensions, as they are in other dialects.
func (d *decoder) input(wire *embedRequest, at string) error {
	path := at + "content"
	if wire.Content == nil || len(wire.Content.Parts) == 0 {
		return dialect.Invalid(path, "it is empty")
	}
	if r := wire.Content.Role; r != "" && r != "user" && r != "model" {
		return dialect.Invalid(path+".role", "it is none of user and model")
	}
	model := strings.TrimPrefix(wire.Model, "models/")
	if d.Model == "" {
		d.Model = model
	} else if model != "" && model != d.Model {
		return dialect.Invalid(at+"model", "it is another one than that of the first request")
	}
	in := dialect.Input{Path: path}
	for i := range wire.Content.Parts {
		in.Parts = append(in.Parts, d.part(&wire.Content.Parts[i], path+".parts["+strconv.Itoa(i)+"]"))
	}
	d.Unknown(wire.Content.Rest, path)
	if err := d.settings(&in, &wire.embedSettings, at); err != nil {
		return err
	}
	size, sizeAt := wire.Dimensions, at+"outputDimensionality"
	if config := wire.Config; config != nil {
		at += "embedContentConfig."
		if err := d.settings(&in, config, at); err != nil {
			return err
		}
		switch {
		case config.Dimensions != nil && size != nil:
			return dialect.Invalid(at+"outputDimensionality", sizeAt+" says it, too")
		case config.Dimensions != nil:
			size, sizeAt = config.Dimensions, at+"outputDimensionality"
		}
	}
	if err := d.dimensions(size, sizeAt); err != nil {
		return err
	}
	d.Inputs = append(d.Inputs, in)
	return nil
}

// settings reads what is said of an input, at a path that is "" or ends in a dot.
func (d *decoder) settings(in *dialect.Input, wire *embedSettings, at string) error {
	for _, s := range []struct {
		hint       *dialect.Hint
		text, name string
	}{{&in.Task, wire.TaskType, "taskType"}, {&in.Title, wire.Title, "title"}} {
		switch {
		case s.text == "":
		case s.hint.Path != "":
			return dialect.Invalid(at+s.name, s.hint.Path+" says it, too")
		default:
			*s.hint = dialect.Hint{Text: s.text, Path: at + s.name}
		}
	}
	d.Unknown(wire.Rest, strings.TrimSuffix(at, "."))
	return nil
}

// dimensions reads of how many dimensions an embedding is to be, nil if that is not said.
func (d *decoder) dimensions(v jsontext.Value, path string) error {
	if len(d.Inputs) == 0 {
		if v != nil {
			d.Note(dialect.Dimensions, path, v)
		}
		return nil
	}
	var first dialect.Field
	for _, f := range d.Fields {
		if f.Name == dialect.Dimensions {
			first = f
		}
	}
	if string(first.Value) != string(v) {
		return dialect.Invalid(path, "it is not the same for all contents")
	}
	if v != nil {
		d.Join(first.Path, path)
	}
	return nil
}

// EncodeRequest writes a request to a provider of this dialect, which has one input. What can't
// be carried is noted in c.
func (EmbedContent) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire, err := embedding(c, &c.Inputs[0], c.Take(dialect.Dimensions))
	if err != nil {
		return nil, err
	}
	if c.Origin != vertex {
		wire.Model = "models/" + c.Model
		return json.Marshal(wire)
	}
	config := wire.embedSettings // which it has in a member of their own, with more of them
	var rest dialect.Object
	rest.SetOwn(c, "autoTruncate", "documentOcr", "audioTrackExtraction")
	config.Rest = rest.Value()
	wire.embedSettings = embedSettings{}
	if config.TaskType != "" || config.Title != "" || config.Dimensions != nil || config.Rest != nil {
		wire.Config = &config
	}
	return json.Marshal(wire)
}

// EncodeRequest writes a request to a provider of this dialect. What can't be carried is noted
// in c.
func (BatchEmbedContents) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	var wire batchRequest
	dimensions := c.Take(dialect.Dimensions)
	for i := range c.Inputs {
		one, err := embedding(c, &c.Inputs[i], dimensions)
		if err != nil {
			return nil, err
		}
		one.Model = "models/" + c.Model
		wire.Requests = append(wire.Requests, *one)
	}
	return json.Marshal(wire)
}

// embedding returns the request for one input.
func embedding(c *dialect.Carrier, in *dialect.Input, dimensions jsontext.Value) (*embedRequest, error) {
	e := encoder{Carrier: c, vertex: c.Origin == vertex}
	wire := &embedRequest{Content: &content{}}
	wire.TaskType, wire.Title, wire.Dimensions = in.Task.Text, in.Title.Text, dimensions
	if in.Tokens != nil {
		_, err := in.Text()
		return nil, err
	}
	for i := range in.Parts {
		p := &in.Parts[i]
		if p.Kind == dialect.Text {
			wire.Content.Parts = append(wire.Content.Parts, part{Text: &p.Text})
			continue
		}
		media, ok := e.media(p)
		if !ok {
			return nil, dialect.Elsewhere(p.Path, "it is nothing that the provider embeds")
		}
		wire.Content.Parts = append(wire.Content.Parts, media)
	}
	return wire, nil
}

var errNoEmbedding = errors.New("the answer holds no embeddings")

// DecodeResponse reads a provider's answer.
func (EmbedContent) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire embedResponse
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Embedding == nil {
		return nil, errNoEmbedding
	}
	r := &dialect.Response{}
	r.Lose(wire.Rest, "")
	addVector(r, wire.Embedding, "embedding")
	wire.Usage.into(r)
	return r, nil
}

// DecodeResponse reads a provider's answer.
func (BatchEmbedContents) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire batchResponse
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if len(wire.Embeddings) == 0 {
		return nil, errNoEmbedding
	}
	r := &dialect.Response{}
	r.Lose(wire.Rest, "")
	for i := range wire.Embeddings {
		addVector(r, &wire.Embeddings[i], "embeddings["+strconv.Itoa(i)+"]")
	}
	wire.Usage.into(r)
	return r, nil
}

// addVector adds an embedding to an answer.
func addVector(r *dialect.Response, wire *vector, path string) {
	r.Vectors = append(r.Vectors, dialect.Vector{Values: wire.Values})
	r.Lose(wire.Rest, path)
}

// into adds usage, which not all models tell, to an answer.
func (u *embedUsage) into(r *dialect.Response) {
	if u != nil {
		r.Usage = dialect.Usage{Known: true, Input: u.Prompt, AudioInput: u.Details.audio() + u.Details2.audio()}
		r.Lose(u.Rest, "usageMetadata")
	}
}

// EncodeResponse writes an answer to a client, which asked for one embedding.
func (EmbedContent) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(embedResponse{Embedding: &vector{Values: r.Vectors[0].Values}, Usage: embedUsageOf(r)})
}

// EncodeResponse writes an answer to a client.
func (BatchEmbedContents) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	wire := batchResponse{Embeddings: make([]vector, len(r.Vectors)), Usage: embedUsageOf(r)}
	for i, v := range r.Vectors {
		wire.Embeddings[i].Values = v.Values
	}
	return json.Marshal(wire)
}

func embedUsageOf(r *dialect.Response) *embedUsage {
	if !r.Usage.Known {
		return nil
	}
	return &embedUsage{Prompt: r.Usage.Input, Details: audioOf(r.Usage.Input, r.Usage.AudioInput)}
}
