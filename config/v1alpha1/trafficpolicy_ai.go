package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// An AIPolicy changes and checks LLM requests and responses.
type AIPolicy struct {
	// What is not let through, or is masked, in prompts and answers. Absent:
	// nothing.
	// +optional
	PromptGuard *PromptGuard `json:"promptGuard,omitempty"`

	// Messages that are put before and after those of the client. Absent:
	// none.
	// +optional
	PromptEnrichment *PromptEnrichment `json:"promptEnrichment,omitempty"`

	// Fields that are set in requests. Absent: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	FieldDefaults []FieldDefault `json:"fieldDefaults,omitempty"`

	// Accepted and without effect: whether an answer is streamed is read from
	// the request.
	// +optional
	RouteType AIRouteType `json:"routeType,omitempty"`
}

// An AIRouteType is what routeType of an [AIPolicy] accepts.
//
// +kubebuilder:validation:Enum=CHAT;CHAT_STREAMING
type AIRouteType string

// The route types.
const (
	AIRouteChat          AIRouteType = "CHAT"
	AIRouteChatStreaming AIRouteType = "CHAT_STREAMING"
)

// A PromptGuard checks prompts and answers: of language models, and of MCP the
// arguments of calls and their results.
type PromptGuard struct {
	// What is checked in prompts. Absent: nothing.
	// +optional
	Request *PromptGuardRequest `json:"request,omitempty"`

	// What is checked in answers. Absent: nothing.
	// +optional
	Response *PromptGuardResponse `json:"response,omitempty"`
}

// A PromptGuardRequest checks prompts: the webhook first, then the regular
// expressions, then the moderation, each of which may reject.
//
// +kubebuilder:validation:XValidation:rule="has(self.regex) || has(self.webhook) || has(self.moderation)",message="set regex, webhook or moderation: the guard checks nothing"
type PromptGuardRequest struct {
	// What a client gets whose prompt is rejected. Default: 403 and a sentence
	// that says so.
	// +optional
	CustomResponse *CustomResponse `json:"customResponse,omitempty"`

	// Regular expressions and built-in recognisers. Absent: none.
	// +optional
	Regex *GuardRegex `json:"regex,omitempty"`

	// A service that sees the prompt and may pass, mask or reject it. Absent:
	// none.
	// +optional
	Webhook *GuardWebhook `json:"webhook,omitempty"`

	// A moderation API that may reject the prompt. Absent: none.
	// +optional
	Moderation *Moderation `json:"moderation,omitempty"`
}

// A PromptGuardResponse checks answers, streamed ones included.
//
// +kubebuilder:validation:XValidation:rule="has(self.regex) || has(self.webhook)",message="set regex or webhook: the guard checks nothing"
type PromptGuardResponse struct {
	// Regular expressions and built-in recognisers. Absent: none.
	// +optional
	Regex *GuardRegex `json:"regex,omitempty"`

	// A service that sees the answer and may pass or mask it. Absent: none.
	// +optional
	Webhook *GuardWebhook `json:"webhook,omitempty"`
}

// A CustomResponse is what a client gets whose prompt is rejected.
type CustomResponse struct {
	// The body, as plain text. Default: "The request was rejected due to
	// inappropriate content".
	// +optional
	// +kubebuilder:default="The request was rejected due to inappropriate content"
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`

	// The HTTP status, 200 to 599. Default: 403.
	// +optional
	// +kubebuilder:default=403
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	StatusCode int32 `json:"statusCode,omitempty"`
}

// A GuardAction says what a match does.
//
// +kubebuilder:validation:Enum=MASK;REJECT
type GuardAction string

// The actions of a guard.
const (
	GuardMask   GuardAction = "MASK"
	GuardReject GuardAction = "REJECT"
)

// A GuardBuiltin is a recogniser that the gateway carries.
//
// +kubebuilder:validation:Enum=SSN;CREDIT_CARD;PHONE_NUMBER;EMAIL;CA_SIN
type GuardBuiltin string

// The built-in recognisers.
const (
	GuardSSN         GuardBuiltin = "SSN"
	GuardCreditCard  GuardBuiltin = "CREDIT_CARD"
	GuardPhoneNumber GuardBuiltin = "PHONE_NUMBER"
	GuardEmail       GuardBuiltin = "EMAIL"
	GuardCaSin       GuardBuiltin = "CA_SIN"
)

// A GuardRegex finds text by regular expressions.
//
// +kubebuilder:validation:XValidation:rule="has(self.matches) || has(self.builtins)",message="set matches or builtins: nothing would be found"
type GuardRegex struct {
	// What a match does. MASK replaces the text by a token such as
	// <CREDIT_CARD>. REJECT refuses the whole. Default: MASK.
	// +optional
	// +kubebuilder:default=MASK
	Action GuardAction `json:"action,omitempty"`

	// Expressions of your own, applied in order, before builtins. Default:
	// none.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Matches []RegexMatch `json:"matches,omitempty"`

	// Recognisers that the gateway carries: SSN, CREDIT_CARD, PHONE_NUMBER,
	// EMAIL and CA_SIN (also written CreditCard, PhoneNumber, CaSin and so on).
	// Default: none.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Builtins []GuardBuiltin `json:"builtins,omitempty"`
}

// A RegexMatch is a regular expression of a [GuardRegex].
type RegexMatch struct {
	// The regular expression, in RE2 syntax: no look-around, no
	// back-reference. One that does not compile makes everything the policy
	// covers answer 500. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Pattern string `json:"pattern"`

	// The name that the mask token carries: <NAME>. Default: masked.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name,omitempty"`
}

// A GuardWebhook is an HTTP service that sees prompts or answers. It is asked
// with POST /request or POST /response. When it can't be reached the request is
// refused.
type GuardWebhook struct {
	// Where the service is. Required.
	Host Host `json:"host"`

	// The client headers that the service gets: those that any entry matches.
	// Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	ForwardHeaderMatches []HeaderMatch `json:"forwardHeaderMatches,omitempty"`
}

// A HeaderMatchType says how a header value is compared.
//
// +kubebuilder:validation:Enum=Exact;RegularExpression
type HeaderMatchType string

// The types of header matches.
const (
	HeaderMatchExact             HeaderMatchType = "Exact"
	HeaderMatchRegularExpression HeaderMatchType = "RegularExpression"
)

// A HeaderMatch matches a header by name and value.
type HeaderMatch struct {
	// How the value is compared. A regular expression must match all of it.
	// Default: Exact.
	// +optional
	// +kubebuilder:default=Exact
	Type HeaderMatchType `json:"type,omitempty"`

	// The name of the header, in any case. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	Name string `json:"name"`

	// The value, or the regular expression in RE2 syntax. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// A Moderation asks a moderation API about prompts.
type Moderation struct {
	// The moderation API of OpenAI. Required.
	OpenAIModeration *OpenAIModeration `json:"openAIModeration"`
}

// An OpenAIModeration asks OpenAI about prompts: one that is flagged is rejected.
type OpenAIModeration struct {
	// The API key. Required.
	AuthToken AuthToken `json:"authToken"`

	// The moderation model. Default: omni-moderation-latest.
	// +optional
	// +kubebuilder:default="omni-moderation-latest"
	// +kubebuilder:validation:MaxLength=512
	Model string `json:"model,omitempty"`
}

// A PromptEnrichment puts messages around those of the client. It runs once a
// request, before the guards, so what it adds is checked too.
//
// +kubebuilder:validation:XValidation:rule="has(self.prepend) || has(self.append)",message="set prepend or append, or both"
type PromptEnrichment struct {
	// Messages before the client's, in this order. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Prepend []PromptMessage `json:"prepend,omitempty"`

	// Messages after the client's, in this order. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Append []PromptMessage `json:"append,omitempty"`
}

// A PromptMessage is a message of a [PromptEnrichment].
type PromptMessage struct {
	// Who speaks: system, user, assistant or another role that the provider
	// knows, in any case. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Role string `json:"role"`

	// What is said. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Content string `json:"content"`
}

// A FieldDefault sets a field of the request body.
type FieldDefault struct {
	// The field: a key such as temperature, or a path such as
	// response_format.type or tools[0].name; a dot inside a key is written \.
	// and a $. in front has no meaning. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path"`

	// The value. A string that is JSON counts as that JSON, so "0.5" is a
	// number and "[1,2]" a list; any other string is itself. Required.
	Value apiextensionsv1.JSON `json:"value"`

	// Whether to replace what the request has. Default: false, the field is set
	// only where it is missing; null counts as present.
	// +optional
	Override bool `json:"override,omitempty"`
}
