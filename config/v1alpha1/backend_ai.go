package v1alpha1

// An AIBackend is one LLM provider, or several in order of preference.
//
// +kubebuilder:validation:XValidation:rule="has(self.llm) != has(self.priorityGroups)",message="set exactly one of llm and priorityGroups"
type AIBackend struct {
	// The one provider. Exactly one of llm and priorityGroups is set.
	// +optional
	LLM *LLMProvider `json:"llm,omitempty"`

	// Groups of providers, 1 to 32, most preferred first. A request goes to the
	// first group with a provider that works; when it fails there before the
	// first content, it goes to the next. Provider names are unique over all
	// groups.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	PriorityGroups []PriorityGroup `json:"priorityGroups,omitempty"`

	// Whether a request that holds a field which a provider can't express is
	// refused with 400. Default: false, the field is left out and the response
	// header x-mcpgw-dropped names it.
	// +optional
	Strict bool `json:"strict,omitempty"`

	// How long providers may take. Absent: the defaults of each.
	// +optional
	Clocks *AIClocks `json:"clocks,omitempty"`

	// Browser origins, such as https://app.example.com, that may open realtime
	// WebSockets; others are answered 403. Requests without an Origin header
	// are not concerned, nor providers with kind Passthrough. Default: the
	// endpoint's own origin.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`

	// What models cost, for the access log, metrics and budgets. They go before the
	// vendors' list prices, which are built in and go stale. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	Prices []ModelPrice `json:"prices,omitempty"`

	// Whether an answer says in the header x-mcpgw-cost what it costs by these
	// prices, in US dollars. Of streams it is a trailer, for their cost is known when
	// they end. Default: false.
	// +optional
	ShowCost bool `json:"showCost,omitempty"`
}

// A PriorityGroup is a set of providers among which requests are balanced.
type PriorityGroup struct {
	// The providers of the group, 1 to 32. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Providers []NamedLLMProvider `json:"providers"`
}

// A NamedLLMProvider is a provider of a [PriorityGroup].
type NamedLLMProvider struct {
	// The name of the provider: lower-case letters, digits, - and ., at most
	// 253. Logs and metrics carry it, and a policy's sectionName may be it.
	// Required, unique over all groups.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`

	LLMProvider `json:",inline"`
}

// An LLMProvider is one LLM API: the one block of its vendor, and where it is if
// not in its usual place.
//
// +kubebuilder:validation:XValidation:rule="[has(self.openai), has(self.anthropic), has(self.gemini), has(self.vertexAI), has(self.azureOpenAI), has(self.bedrock)].filter(x, x).size() == 1",message="set exactly one of openai, anthropic, gemini, vertexAI, azureOpenAI and bedrock"
// +kubebuilder:validation:XValidation:rule="has(self.host) == has(self.port)",message="set host and port together, or neither"
type LLMProvider struct {
	// OpenAI, or an API like it at host and port. Exactly one vendor is set.
	// +optional
	OpenAI *OpenAIProvider `json:"openai,omitempty"`

	// Anthropic.
	// +optional
	Anthropic *AnthropicProvider `json:"anthropic,omitempty"`

	// Google Gemini with an API key.
	// +optional
	Gemini *GeminiProvider `json:"gemini,omitempty"`

	// Google Vertex AI.
	// +optional
	VertexAI *VertexAIProvider `json:"vertexAI,omitempty"`

	// Azure OpenAI.
	// +optional
	AzureOpenAI *AzureOpenAIProvider `json:"azureOpenAI,omitempty"`

	// Amazon Bedrock.
	// +optional
	Bedrock *BedrockProvider `json:"bedrock,omitempty"`

	// The host to send to instead of the vendor's. It is reached without TLS
	// unless the port is 443 or a policy configures TLS. Set together with
	// port.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host,omitempty"`

	// The port of host, 1 to 65535. Set together with host.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// The path to send to instead of the vendor's. Default: the vendor's.
	// +optional
	Path *LLMPath `json:"path,omitempty"`

	// How to send the credential, where it differs from what the vendor wants.
	// Default: as the vendor wants it.
	// +optional
	AuthHeader *LLMAuthHeader `json:"authHeader,omitempty"`

	// The models that this provider is asked for, up to 256: names, or patterns
	// in which * is any text, such as gpt-*. A request goes to the providers
	// that list its model; where none does, to those that list none. Where a
	// provider of the Backend has models, a client may also write NAME/MODEL
	// for the MODEL of the provider of that name. Default: any model.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Models []string `json:"models,omitempty"`

	// What a request is, by the end of its path, in which * is any text:
	// /v1/messages: Messages, or /v1/files/*: Passthrough. The longest that
	// fits wins, and * alone fits all. Of several providers the first with a
	// fitting entry decides, and those where it is something else are not
	// asked. Passthrough sends any request as it is with the provider's
	// credential, uncounted, and is not tried elsewhere. Default: the
	// well-known paths of each API, else Completions.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Routes map[string]LLMRouteType `json:"routes,omitempty"`
}

// An LLMPath replaces the path of a provider's API.
//
// +kubebuilder:validation:XValidation:rule="has(self.full) != has(self.prefix)",message="set exactly one of full and prefix"
type LLMPath struct {
	// The whole path, beginning with /, for whatever is asked. Exactly one of
	// full and prefix is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^/`
	Full string `json:"full,omitempty"`

	// What all paths of the API begin with, in place of the vendor's /v1 or
	// /v1beta: /openai/v1 for a server that has /openai/v1/chat/completions.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^/`
	Prefix string `json:"prefix,omitempty"`
}

// An LLMAuthHeader says in which header a credential is sent.
//
// +kubebuilder:validation:XValidation:rule="has(self.headerName) || has(self.prefix)",message="set headerName or prefix, or both"
type LLMAuthHeader struct {
	// The name of the header. Default: the vendor's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	HeaderName string `json:"headerName,omitempty"`

	// What stands before the token in the header, with the space between them
	// if there is one. Default: the vendor's, such as "Bearer ".
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Prefix *string `json:"prefix,omitempty"`
}

// An LLMRouteType says what requests of a path are.
//
// +kubebuilder:validation:Enum=Completions;Messages;Models;Passthrough;Embeddings;Responses;AnthropicTokenCount;GenerateContent;Realtime
type LLMRouteType string

// The route types.
const (
	LLMCompletions         LLMRouteType = "Completions"
	LLMMessages            LLMRouteType = "Messages"
	LLMModels              LLMRouteType = "Models"
	LLMPassthrough         LLMRouteType = "Passthrough"
	LLMEmbeddings          LLMRouteType = "Embeddings"
	LLMResponses           LLMRouteType = "Responses"
	LLMAnthropicTokenCount LLMRouteType = "AnthropicTokenCount"
	LLMGenerateContent     LLMRouteType = "GenerateContent"
	LLMRealtime            LLMRouteType = "Realtime"
)

// An OpenAIProvider is the API of OpenAI, or one like it.
type OpenAIProvider struct {
	// The API key. Required.
	AuthToken AuthToken `json:"authToken"`

	// The model to use whatever the request asks for. Default: the request's.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Model string `json:"model,omitempty"`
}

// An AnthropicProvider is the Messages API of Anthropic.
type AnthropicProvider struct {
	// The API key. Required.
	AuthToken AuthToken `json:"authToken"`

	// The model to use whatever the request asks for. Default: the request's.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Model string `json:"model,omitempty"`

	// The value of the header anthropic-version. Default: the client's, else
	// 2023-06-01.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	APIVersion string `json:"apiVersion,omitempty"`
}

// A GeminiProvider is the Gemini API of Google.
type GeminiProvider struct {
	// The API key. Required.
	AuthToken AuthToken `json:"authToken"`

	// The model to use whatever the request asks for. Default: the request's.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Model string `json:"model,omitempty"`

	// The version in the path of the API. Default: v1beta.
	// +optional
	// +kubebuilder:default=v1beta
	// +kubebuilder:validation:MaxLength=64
	APIVersion string `json:"apiVersion,omitempty"`

	// Whether to use Google's OpenAI-compatible endpoint instead of the native
	// one, which carries tool calls, thinking and images better. Default:
	// false.
	// +optional
	Compat bool `json:"compat,omitempty"`
}

// A VertexAIProvider is Vertex AI of Google Cloud.
type VertexAIProvider struct {
	// The OAuth access token or, under the key Authorization of a Secret, the
	// JSON key of a service account, for which tokens are fetched. Default: the
	// application default credentials: the file that
	// GOOGLE_APPLICATION_CREDENTIALS names (a service account's key, workload
	// identity federation), else the metadata server.
	// +optional
	AuthToken *AuthToken `json:"authToken,omitempty"`

	// The model to use whatever the request asks for: gemini-2.5-pro,
	// claude-sonnet-4-5, or publisher/model. Claude is asked by Anthropic's API,
	// models of other publishers than Google by chat completions. Default: the
	// request's.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Model string `json:"model,omitempty"`

	// The id of the Google Cloud project. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Project string `json:"project"`

	// The location: a region such as us-central1, one of the multi-regions us
	// and eu, or global. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9-]+$`
	Location string `json:"location"`

	// The version in the path of the API. Default: v1beta1.
	// +optional
	// +kubebuilder:default=v1beta1
	// +kubebuilder:validation:MaxLength=64
	APIVersion string `json:"apiVersion,omitempty"`

	// Who publishes the model, where its name does not say so: GOOGLE or
	// another publisher's name. A name that begins with claude- is anthropic's.
	// Default: GOOGLE.
	// +optional
	// +kubebuilder:default=GOOGLE
	// +kubebuilder:validation:MaxLength=64
	Publisher string `json:"publisher,omitempty"`

	// The end of the path, after the model, instead of the one that the
	// request calls for. Default: what the request calls for.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	ModelPath string `json:"modelPath,omitempty"`

	// Whether to use Google's OpenAI-compatible endpoint instead of the native
	// one. Default: false.
	// +optional
	Compat bool `json:"compat,omitempty"`
}

// An AzureOpenAIProvider is a deployment of Azure OpenAI.
type AzureOpenAIProvider struct {
	// The API key. Default: a token of Microsoft Entra ID, for whom the
	// environment names as Azure's own clients read it: AZURE_TENANT_ID,
	// AZURE_CLIENT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE
	// (workload identity), else the managed identity.
	// +optional
	AuthToken *AuthToken `json:"authToken,omitempty"`

	// The endpoint of the resource, such as name.openai.azure.com; a scheme and
	// a path are taken off. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Endpoint string `json:"endpoint"`

	// The name of the deployment to use whatever the request asks for. Default:
	// the request's model.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	DeploymentName string `json:"deploymentName,omitempty"`

	// The API version: a date such as 2024-10-21, v1 or preview. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	APIVersion string `json:"apiVersion"`
}

// A BedrockProvider is Amazon Bedrock, by its Converse API; what clients of
// Anthropic's Messages ask of Claude, by InvokeModel.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.auth) && has(self.authToken))",message="set only one of auth and authToken"
type BedrockProvider struct {
	// The credentials that requests are signed with. Absent, and without
	// authToken: an API key in the variable AWS_BEARER_TOKEN_BEDROCK, or else
	// what the AWS SDK finds first of the environment, web identity (IRSA), the
	// shared files, EKS Pod Identity or the container's role, and the
	// instance's role.
	// +optional
	Auth *AWSAuth `json:"auth,omitempty"`

	// An API key of Amazon Bedrock, which is sent instead of a signature. At
	// most one of auth and authToken is set.
	// +optional
	AuthToken *AuthToken `json:"authToken,omitempty"`

	// The model to use whatever the request asks for: the id of a model or of
	// an inference profile, or an ARN. Default: the request's.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Model string `json:"model,omitempty"`

	// The AWS region. Default: us-east-1.
	// +optional
	// +kubebuilder:default="us-east-1"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9-]+$`
	Region string `json:"region,omitempty"`

	// The guardrail that Bedrock applies. Absent: none.
	// +optional
	Guardrail *BedrockGuardrail `json:"guardrail,omitempty"`
}

// A BedrockGuardrail names a guardrail of Amazon Bedrock.
type BedrockGuardrail struct {
	// The id or ARN of the guardrail. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Identifier string `json:"identifier"`

	// Its version: a number or DRAFT. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
}
