package gemini

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (GenerateContent) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire request
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	return decode(&wire, "")
}

// decode reads a request that stands at a path, which is "" or ends in a dot.
func decode(wire *request, at string) (*dialect.Request, error) {
	d := decoder{Request: &dialect.Request{Usage: true}, at: at}
	if s := wire.SystemInstruction; s != nil {
		d.message(s, dialect.FromSystem, at+"systemInstruction")
	}
	for i := range wire.Contents {
		path := at + "contents[" + strconv.Itoa(i) + "]"
		role := dialect.FromUser
		switch wire.Contents[i].Role {
		case "model":
			role = dialect.FromAssistant
		case "user", "function", "":
		default:
			return nil, dialect.Invalid(path+".role", "it is none of user and model")
		}
		d.message(&wire.Contents[i], role, path)
	}
	for i := range wire.Tools {
		d.tool(&wire.Tools[i], at+"tools["+strconv.Itoa(i)+"]")
	}
	if err := d.choice(wire.ToolConfig); err != nil {
		return nil, err
	}
	if err := d.generation(wire.GenerationConfig); err != nil {
		return nil, err
	}
	d.Unknown(wire.Rest, strings.TrimSuffix(at, "."))
	return d.Request, nil
}

// A decoder reads one request. Calls without an id get one, by which their results find
// them: here it is the order that joins them.
type decoder struct {
	*dialect.Request
	at    string // before the paths of members
	calls []call // that have no result yet
	made  int    // ids
}

type call struct{ id, name string }

func (d *decoder) message(c *content, role dialect.Role, path string) {
	m := dialect.Message{Role: role, Path: path}
	d.Unknown(c.Rest, path)
	for i := range c.Parts {
		p := d.part(&c.Parts[i], path+".parts["+strconv.Itoa(i)+"]")
		if n := len(m.Parts); n > 0 && p.Kind == dialect.Thinking && m.Parts[n-1].Kind == dialect.Thinking && m.Parts[n-1].Signature == "" {
			p.Text = m.Parts[n-1].Text + p.Text // as it was streamed
			d.Join(m.Parts[n-1].Path, p.Path)
			p.Path = m.Parts[n-1].Path
			m.Parts = m.Parts[:n-1]
		}
		m.Parts = append(m.Parts, p)
	}
	d.Messages = append(d.Messages, m)
}

func (d *decoder) part(wire *part, path string) dialect.Part {
	p := dialect.Part{Path: path}
	if wire.ThoughtSignature != "" {
		p.Origin, p.Signature = signatureOf(wire.ThoughtSignature)
		p.SignedAt = path + ".thoughtSignature"
	}
	switch {
	case wire.FunctionCall != nil:
		f := wire.FunctionCall
		p.Kind, p.ID, p.Name, p.Text = dialect.ToolCall, f.ID, f.Name, string(f.Args)
		if p.ID == "" {
			d.made++
			p.ID = "call_" + strconv.Itoa(d.made)
		}
		if p.Text == "" {
			p.Text = "{}"
		}
		d.calls = append(d.calls, call{p.ID, p.Name})
		d.Unknown(f.Rest, path+".functionCall")
	case wire.FunctionResponse != nil:
		f := wire.FunctionResponse
		p.Kind, p.Name = dialect.ToolResult, f.Name
		p.ID = d.answered(f.ID, f.Name)
		p.Parts, p.Failed = result(f.Response, path+".functionResponse.response")
		d.Unknown(f.Rest, path+".functionResponse")
	case wire.InlineData != nil:
		p.Kind = mediaKind(wire.InlineData.MimeType)
		p.Media = dialect.Media{Type: wire.InlineData.MimeType, Data: wire.InlineData.Data}
		d.Unknown(wire.InlineData.Rest, path+".inlineData")
	case wire.FileData != nil:
		p.Kind = mediaKind(wire.FileData.MimeType)
		p.Media = dialect.Media{Type: wire.FileData.MimeType, URL: wire.FileData.FileURI}
		d.Unknown(wire.FileData.Rest, path+".fileData")
	case wire.Text != nil && wire.Thought:
		p.Kind, p.Text = dialect.Thinking, *wire.Text
		if data, ok := strings.CutPrefix(p.Signature, redacted); ok && p.Origin != vendor {
			if p.Text != "" {
				d.Note("", path+".text", dialect.String(p.Text))
			}
			p.Kind, p.Text, p.Signature = dialect.Redacted, data, data
		}
	case wire.Text != nil:
		p.Kind, p.Text = dialect.Text, *wire.Text
	default:
		p.Kind = dialect.Opaque
		return p // which is dropped as a whole
	}
	d.Unknown(wire.Rest, path)
	return p
}

// answered returns the id of the call that a result belongs to: the one it names, or the
// first of that function which has none.
func (d *decoder) answered(id, name string) string {
	for i, c := range d.calls {
		if c.id == id || id == "" && c.name == name {
			d.calls = append(d.calls[:i], d.calls[i+1:]...)
			return c.id
		}
	}
	return id
}

// result reads what a function returned, and whether it failed: by convention that stands
// under output, or under error.
func result(response jsontext.Value, path string) (parts []dialect.Part, failed bool) {
	p := dialect.Part{Kind: dialect.Text, Path: path, Text: string(response)}
	members := 0
	dialect.Members(response, func(name string, v jsontext.Value) {
		members++
		if v.Kind() == '"' && (name == "output" || name == "result" || name == "error") {
			p.Text, failed = dialect.Strings(v)[0], name == "error"
		}
	})
	if members != 1 {
		p.Text, failed = string(response), false
	}
	return []dialect.Part{p}, failed
}

func mediaKind(typ string) dialect.Kind {
	switch {
	case strings.HasPrefix(typ, "image/"):
		return dialect.Image
	case strings.HasPrefix(typ, "audio/"):
		return dialect.Audio
	case strings.HasPrefix(typ, "video/"):
		return dialect.Opaque
	default:
		return dialect.Document
	}
}

func (d *decoder) tool(t *tool, path string) {
	for i := range t.FunctionDeclarations {
		f := &t.FunctionDeclarations[i]
		at := path + ".functionDeclarations[" + strconv.Itoa(i) + "]"
		schema := f.ParametersJSONSchema
		if schema == nil && f.Parameters != nil {
			schema = jsonSchema(f.Parameters)
		}
		d.Tools = append(d.Tools, dialect.Tool{Path: at, Name: f.Name, Description: f.Description, Schema: schema})
		d.Unknown(f.Rest, at)
	}
	d.Unknown(t.Rest, path) // tools of the provider's own
}

func (d *decoder) choice(c *toolConfig) error {
	if c == nil {
		return nil
	}
	d.Unknown(c.Rest, d.at+"toolConfig")
	f := c.FunctionCallingConfig
	if f == nil {
		return nil
	}
	path := d.at + "toolConfig.functionCallingConfig"
	d.Unknown(f.Rest, path)
	d.Choice.Path = path
	switch f.Mode {
	case "AUTO", "", "MODE_UNSPECIFIED":
		d.Choice.Mode = dialect.ChoiceAuto
	case "VALIDATED":
		d.Choice.Mode = dialect.ChoiceAuto
		strict := true
		for i := range d.Tools {
			d.Tools[i].Strict = &strict
		}
	case "NONE":
		d.Choice.Mode = dialect.ChoiceNone
	case "ANY":
		d.Choice.Mode = dialect.ChoiceRequired
	default:
		return dialect.Invalid(path+".mode", "it is none of AUTO, ANY, NONE and VALIDATED")
	}
	switch {
	case len(f.AllowedFunctionNames) == 1 && f.Mode == "ANY":
		d.Choice.Mode, d.Choice.Name = dialect.ChoiceNamed, f.AllowedFunctionNames[0]
	case len(f.AllowedFunctionNames) > 0:
		d.Note("", path+".allowedFunctionNames", jsontext.Value("[]"))
	}
	return nil
}

func (d *decoder) generation(g *generationConfig) error {
	if g == nil {
		return nil
	}
	path := d.at + "generationConfig"
	dialect.Members(g.Rest, func(name string, v jsontext.Value) {
		f := dialect.Field{Path: path + "." + name, Value: v}
		for _, known := range fields {
			if known[0] == name {
				f.Name = known[1]
			}
		}
		d.Fields = append(d.Fields, f)
	})
	strict := true
	switch {
	case g.ResponseMimeType == "application/json":
		d.Output = dialect.Output{Format: dialect.JSONObject, Path: path + ".responseMimeType"}
		schema := g.ResponseJSONSchema
		if schema == nil && g.ResponseSchema != nil {
			schema = jsonSchema(g.ResponseSchema)
		}
		if schema != nil {
			d.Output = dialect.Output{Format: dialect.JSONSchema, Path: path + ".responseSchema", Schema: schema, Strict: &strict}
		}
	case g.ResponseMimeType != "" && g.ResponseMimeType != "text/plain":
		d.Note("", path+".responseMimeType", dialect.String(g.ResponseMimeType))
	}
	t := g.ThinkingConfig
	if t == nil {
		return nil
	}
	r := &d.Reasoning
	r.Path = path + ".thinkingConfig"
	r.Hidden, r.HiddenAt = !t.IncludeThoughts, r.Path+".includeThoughts"
	r.Effort, r.EffortAt = strings.ToLower(t.ThinkingLevel), r.Path+".thinkingLevel"
	d.Unknown(t.Rest, r.Path)
	switch b := t.ThinkingBudget; {
	case b == nil:
		r.Adaptive = r.Effort == ""
	case *b == 0:
		r.Off = true
	case *b < 0:
		r.Adaptive = true
	default:
		r.Budget = *b
	}
	return nil
}

// jsonSchema returns a schema in the words of JSON Schema: OpenAPI 3.0 writes types in
// capitals here, and null by a member of its own.
func jsonSchema(schema jsontext.Value) jsontext.Value {
	switch schema.Kind() {
	case '[':
		var out []jsontext.Value
		dialect.Elements(schema, func(_ int, v jsontext.Value) { out = append(out, jsonSchema(v)) })
		if v, err := json.Marshal(out); err == nil {
			return v
		}
	case '{':
		var out dialect.Object
		nullable := false
		dialect.Members(schema, func(name string, v jsontext.Value) {
			if name == "nullable" {
				nullable = v.Kind() == 't'
			}
		})
		dialect.Members(schema, func(name string, v jsontext.Value) {
			switch name {
			case "nullable", "propertyOrdering":
			case "type":
				if v.Kind() == '"' {
					v = dialect.String(strings.ToLower(dialect.Strings(v)[0]))
					if nullable {
						v = jsontext.Value("[" + string(v) + `,"null"]`)
					}
				}
				out.Set(name, v)
			case "properties":
				var properties dialect.Object
				dialect.Members(v, func(name string, v jsontext.Value) { properties.Set(name, jsonSchema(v)) })
				if all := properties.Value(); all != nil {
					v = all
				}
				out.Set(name, v)
			case "items", "anyOf", "prefixItems":
				out.Set(name, jsonSchema(v))
			default:
				out.Set(name, v)
			}
		})
		if v := out.Value(); v != nil {
			return v
		}
	}
	return schema
}

// isBase64 reports whether s can stand where bytes do.
func isBase64(s string) bool {
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}
