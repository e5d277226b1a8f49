package bedrock

import (
	"strings"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// formats are the API's words for media types (ImageBlock, DocumentBlock, AudioBlock).
var formats = [...]struct {
	kind         dialect.Kind
	typ, formats string
}{
	{dialect.Image, "image/png", "png"},
	{dialect.Image, "image/jpeg", "jpeg"},
	{dialect.Image, "image/jpg", "jpeg"},
	{dialect.Image, "image/gif", "gif"},
	{dialect.Image, "image/webp", "webp"},
	{dialect.Document, "application/pdf", "pdf"},
	{dialect.Document, "text/csv", "csv"},
	{dialect.Document, "application/msword", "doc"},
	{dialect.Document, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"},
	{dialect.Document, "application/vnd.ms-excel", "xls"},
	{dialect.Document, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"},
	{dialect.Document, "text/html", "html"},
	{dialect.Document, "text/plain", "txt"},
	{dialect.Document, "text/markdown", "md"},
	{dialect.Audio, "audio/mpeg", "mp3"},
	{dialect.Audio, "audio/mp3", "mp3"},
	{dialect.Audio, "audio/wav", "wav"},
	{dialect.Audio, "audio/ogg", "ogg"},
	{dialect.Audio, "audio/flac", "flac"},
	{dialect.Audio, "audio/aac", "aac"},
	{dialect.Audio, "audio/opus", "opus"},
}

// media returns an image, a sound or a document; an empty block where the API has none
// such. It fetches from S3 only.
func (e *encoder) media(p *dialect.Part) (b block) {
	format := ""
	for _, f := range formats {
		if f.kind == p.Kind && f.typ == p.Media.Type {
			format = f.formats
		}
	}
	m := &media{Format: format}
	switch {
	case format == "":
		return b
	case p.Media.Data != "":
		m.Source.Bytes = p.Media.Data
	case strings.HasPrefix(p.Media.URL, "s3://"):
		m.Source.S3Location = &location{p.Media.URL}
	default:
		return b
	}
	switch p.Kind {
	case dialect.Image:
		b.Image = m
	case dialect.Audio:
		b.Audio = m
	case dialect.Document:
		m.Name = e.document(p.Media.Name)
		b.Document = m
	}
	return b
}
