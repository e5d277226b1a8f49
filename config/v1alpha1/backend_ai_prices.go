package v1alpha1

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// A Dollars is an amount of US dollars as decimal text: at most nine digits, and at
// most nine behind a point, such as "12.50".
//
// +kubebuilder:validation:Pattern=`^[0-9]{1,9}(\.[0-9]{1,9})?$`
type Dollars string

// A ModelPrice is what models cost.
type ModelPrice struct {
	// The models by name, in lower case; * stands for any characters. Of several names
	// that match the longest counts. The model that answered is looked for first, then
	// the one that the provider was asked for. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Models []string `json:"models"`

	// Whose models: openai, anthropic, gcp.gemini, gcp.vertex_ai, aws.bedrock or
	// azure.ai.openai. Absent: any vendor's.
	// +optional
	// +kubebuilder:validation:Enum=openai;anthropic;gcp.gemini;gcp.vertex_ai;aws.bedrock;azure.ai.openai
	Provider string `json:"provider,omitempty"`

	TokenPrices `json:",inline"`

	// Other prices for requests with a long input, for all of their tokens. Absent:
	// they cost the same.
	// +optional
	Long *LongPrices `json:"long,omitempty"`
}

// A TokenPrices is what a million tokens cost, in US dollars.
type TokenPrices struct {
	// Input. "0" for models that cost nothing. Required.
	Input Dollars `json:"input"`

	// Output, such as "15" or "2.50". Default: 0.
	// +optional
	Output Dollars `json:"output,omitempty"`

	// Input that came from a cache. Default: as input.
	// +optional
	CacheRead Dollars `json:"cacheRead,omitempty"`

	// Input that was written to a cache for minutes. Default: as input.
	// +optional
	CacheWrite Dollars `json:"cacheWrite,omitempty"`

	// Input that was written to a cache for an hour. Default: as cacheWrite.
	// +optional
	CacheWriteHour Dollars `json:"cacheWriteHour,omitempty"`

	// Reasoning. Default: as output.
	// +optional
	Reasoning Dollars `json:"reasoning,omitempty"`

	// Sound in the input. Default: as input.
	// +optional
	AudioInput Dollars `json:"audioInput,omitempty"`

	// Sound in the output. Default: as output.
	// +optional
	AudioOutput Dollars `json:"audioOutput,omitempty"`
}

// A LongPrices is what a million tokens cost in requests with a long input.
type LongPrices struct {
	// The input, in tokens, above which these prices are meant. Required.
	// +kubebuilder:validation:Minimum=1
	Above int64 `json:"above"`

	TokenPrices `json:",inline"`
}

func (m *ModelPrice) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range m.Models {
		if name != strings.ToLower(name) {
			errs = append(errs, field.Invalid(p.Child("models").Index(i), name, "must be in lower case, in which models are looked for"))
		}
	}
	return errs
}
