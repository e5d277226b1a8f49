package dialect

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxInputs bounds what one request may want embedded; it is what OpenAI takes.
const MaxInputs = 2048

// An Input is one thing to be embedded.
type Input struct {
	Path  string
	Parts []Part // Text and Media; of several the embedding is one
	// Tokens are the ids of tokens in place of Parts: an array. Only the provider whose
	// client made them knows what they are.
	Tokens jsontext.Value

	Task  Hint // what the embedding is for, in Gemini's words: RETRIEVAL_QUERY
	Title Hint // of the document
}

// A Hint is what a client says of an Input; "" is nothing.
type Hint struct{ Text, Path string }

// Text returns an input that is only text. The parts of one stand on lines of their own. Its
// error is for the client.
func (in *Input) Text() (string, error) {
	if in.Tokens != nil {
		return "", Elsewhere(in.Path, "it holds the ids of tokens: the provider embeds text only")
	}
	texts := make([]string, len(in.Parts))
	for i := range in.Parts {
		p := &in.Parts[i]
		if p.Kind != Text {
			return "", Elsewhere(p.Path, "it is no text: the provider embeds text only")
		}
		texts[i] = p.Text
	}
	return strings.Join(texts, "\n"), nil
}

// Elsewhere returns the error of a request that holds something at path which the provider can't
// be asked, and why.
func Elsewhere(path, why string) *Error {
	e := Invalid(path, why)
	e.Elsewhere = true
	return e
}

// tasks are what embeddings are for, in the words of Cohere and of Gemini.
var tasks = [...][2]string{
	{"search_query", "RETRIEVAL_QUERY"}, {"search_document", "RETRIEVAL_DOCUMENT"}, {"classification", "CLASSIFICATION"}, {"clustering", "CLUSTERING"},
}

// TaskOf returns Gemini's word for a task that Cohere has a word for; others stay.
func TaskOf(cohere string) string {
	for _, t := range tasks {
		if t[0] == cohere {
			return t[1]
		}
	}
	return cohere
}

// CohereTask returns Cohere's word for a task, "" if it has none.
func CohereTask(task string) string {
	for _, t := range tasks {
		if t[1] == task {
			return t[0]
		}
	}
	return ""
}

// A Vector is the embedding of one input, as the provider wrote it: an array of numbers, or their
// bytes in base64.
type Vector struct {
	Values jsontext.Value
}

// Base64 returns a vector of numbers as their bytes, float32 in little endian, in base64.
func (v Vector) Base64() (string, error) {
	var values []float32
	if err := json.Unmarshal(v.Values, &values); err != nil {
		return "", fmt.Errorf("reading an embedding: %w", err)
	}
	b := make([]byte, 0, 4*len(values))
	for _, f := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

var errNoVector = errors.New("an embedding is no array of numbers")

// Numbers returns the vector as an array of numbers.
func (v Vector) Numbers() (Vector, error) {
	switch v.Values.Kind() {
	case '[':
		err := Each(v.Values, func(dec *jsontext.Decoder) error {
			if dec.PeekKind() != '0' {
				return errNoVector
			}
			return dec.SkipValue()
		})
		return v, err
	case '"':
		b, err := base64.StdEncoding.DecodeString(Strings(v.Values)[0])
		if err != nil || len(b)%4 != 0 {
			return Vector{}, errNoVector
		}
		out := []byte{'['}
		for i := 0; i < len(b); i += 4 {
			if i > 0 {
				out = append(out, ',')
			}
			f := math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
			if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
				return Vector{}, errNoVector
			}
			out = strconv.AppendFloat(out, float64(f), 'g', -1, 32)
		}
		return Vector{append(out, ']')}, nil
	}
	return Vector{}, errNoVector
}
