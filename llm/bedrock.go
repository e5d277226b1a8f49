package llm

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/bedrock"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// A BedrockGuardrail is the guardrail that Bedrock applies; the zero one is none.
type BedrockGuardrail struct {
	Identifier, Version string
}

// bedrockAPI is the runtime of Amazon Bedrock. All models are asked by its Converse API, but
// for what clients of Anthropic's ask of Claude: that is InvokeModel's, which takes and gives
// Anthropic's own bodies, so that bytes pass.
type bedrockAPI struct{}

func (bedrockAPI) name() string { return "aws.bedrock" }

// host is empty: each region has its own.
func (bedrockAPI) host() string { return "" }

// BedrockHost returns the host of a region.
func BedrockHost(region string) string { return awsHost("bedrock-runtime", region) }

// BedrockCatalogueHost returns the host that lists what a region has.
func BedrockCatalogueHost(region string) string { return awsHost("bedrock", region) }

func awsHost(service, region string) string {
	if strings.HasPrefix(region, "cn-") {
		return service + "." + region + ".amazonaws.com.cn"
	}
	return service + "." + region + ".amazonaws.com"
}

func (bedrockAPI) catalogue(_ *Provider, page string) (target string, l listReader) {
	return bedrock.ModelsTarget(page), bedrock.Models{}
}

// speaks: a path of the configuration says what is there.
func (bedrockAPI) speaks(p *Provider, client form, model string) (form, bool) {
	switch {
	case client.embeds():
		return embedder(model)
	case client.counts():
		return countConverse, p.Path == ""
	case client == messages && p.Path == "" && bedrock.IsClaude(model), strings.Contains(p.Path, "/invoke"):
		return messages, true
	default:
		return converse, true
	}
}

// embedder returns how a model is asked to embed.
func embedder(model string) (form, bool) {
	switch bedrock.EmbedderOf(model) {
	case bedrock.TitanEmbedder:
		return embedTitan, true
	case bedrock.CohereEmbedder:
		return embedCohere, true
	case bedrock.NovaEmbedder:
		return embedNova, true
	default:
		return embedTitan, false
	}
}

// metered: InvokeModel says how many tokens the model took and gave.
func (bedrockAPI) metered(h http.Header) (u dialect.Usage) {
	in, err := strconv.ParseInt(h.Get("X-Amzn-Bedrock-Input-Token-Count"), 10, 64)
	if err != nil || in < 0 {
		return u
	}
	out, _ := strconv.ParseInt(h.Get("X-Amzn-Bedrock-Output-Token-Count"), 10, 64) // none, of embeddings
	return dialect.Usage{Known: true, Input: in, Output: max(out, 0)}
}

func (bedrockAPI) target(_ *Provider, f form, model string, stream bool) string {
	at := "/model/" + escaped(model)
	switch {
	case f == countConverse:
		return at + "/count-tokens"
	case f == messages && stream:
		return at + "/invoke-with-response-stream"
	case f == messages, f.embeds():
		return at + "/invoke"
	case stream:
		return at + "/converse-stream"
	default:
		return at + "/converse"
	}
}

// escaped returns a model, which may be an ARN with slashes, as one segment of a path. All
// that may be escaped is, as the AWS SDKs do it: the path is signed.
func escaped(model string) string {
	switch model {
	case ".", "..":
		return strings.ReplaceAll(model, ".", "%2E") // or it would lead elsewhere
	}
	return strings.ReplaceAll(url.QueryEscape(model), "+", "%20")
}

// credential is where API keys of Bedrock's stand; requests without one are signed.
func (bedrockAPI) credential(*Provider, string) (header, prefix string) {
	return "Authorization", "Bearer "
}

func (bedrockAPI) headers(a *attempt, out http.Header) {
	g := &a.provider.Guardrail
	if a.speaks == messages && g.Identifier != "" {
		out["X-Amzn-Bedrock-Guardrailidentifier"] = []string{g.Identifier}
		out["X-Amzn-Bedrock-Guardrailversion"] = []string{g.Version}
		out["X-Amzn-Bedrock-Trace"] = []string{"ENABLED"}
	}
}

// origin: the thoughts that Claude signs are good at all who serve Claude.
func (v bedrockAPI) origin(a *attempt) string {
	if a.speaks == messages || bedrock.IsClaude(a.named) {
		return anthropicAPI{}.name()
	}
	return v.name()
}

func (v bedrockAPI) patches(a *attempt, body *dialect.Body) ([]dialect.Patch, []string) {
	switch a.speaks {
	case messages:
		return v.invokePatches(a, body)
	case converse:
		return v.conversePatches(a, body)
	default:
		return nil, nil
	}
}

// bedrockVersion is the one version of Anthropic's API that there is at Bedrock.
const bedrockVersion = "bedrock-2023-05-31"

// invokePatches: model and stream stand in the path; the version of the API and the betas,
// which clients say in headers, in the body.
func (bedrockAPI) invokePatches(a *attempt, body *dialect.Body) (patches []dialect.Patch, dropped []string) {
	patches = []dialect.Patch{{Name: "model"}, {Name: "stream"}}
	if body.Get("anthropic_version") == nil {
		patches = append(patches, dialect.Patch{Name: "anthropic_version", Value: dialect.String(bedrockVersion)})
	}
	named := dialect.Strings(body.Get("anthropic_beta"))
	betas := slices.Clone(named)
	for _, line := range a.header["Anthropic-Beta"] {
		for beta := range strings.SplitSeq(line, ",") {
			switch beta = strings.TrimSpace(beta); {
			case beta == "" || slices.Contains(betas, beta):
			case knowsBeta(beta):
				betas = append(betas, beta)
			default:
				dropped = append(dropped, "anthropic-beta:"+beta)
			}
		}
	}
	if len(betas) > len(named) {
		patches = append(patches, dialect.Patch{Name: "anthropic_beta", Value: marshal(betas)})
	}
	return patches, dropped
}

// knowsBeta reports whether Bedrock knows a beta of Anthropic's: it refuses requests with
// others, which clients send all the time (User Guide, Anthropic Claude Messages API).
func knowsBeta(name string) bool {
	switch name {
	case "compact-2026-01-12", "computer-use-2025-01-24", "computer-use-2025-11-24", "context-1m-2025-08-07", "context-management-2025-06-27",
		"dev-full-thinking-2025-05-14", "interleaved-thinking-2025-05-14", "output-128k-2025-02-19", "token-efficient-tools-2025-02-19",
		"tool-examples-2025-10-29", "tool-search-tool-2025-10-19":
		return true
	default:
		return false
	}
}

// bedrockMetadata is the header in which a client says what is to stand in the log of
// invocations: a JSON object of strings.
const bedrockMetadata = "X-Bedrock-Metadata"

// conversePatches adds what is no part of the client's request: the guardrail, and metadata
// from a header.
func (bedrockAPI) conversePatches(a *attempt, body *dialect.Body) (patches []dialect.Patch, dropped []string) {
	if g := &a.provider.Guardrail; g.Identifier != "" {
		var o dialect.Object
		o.Set("guardrailIdentifier", dialect.String(g.Identifier))
		o.Set("guardrailVersion", dialect.String(g.Version))
		o.Set("trace", jsontext.Value(`"enabled"`))
		patches = append(patches, dialect.Patch{Name: "guardrailConfig", Value: o.Value()})
	}
	said := a.header.Get(bedrockMetadata)
	if said == "" {
		return patches, nil
	}
	metadata := map[string]string{}
	if json.Unmarshal([]byte(said), &metadata) != nil {
		return patches, []string{"x-bedrock-metadata"}
	}
	for name, value := range metadata {
		if !bedrock.IsMetadata(name) || value != "" && !bedrock.IsMetadata(value) {
			delete(metadata, name)
			dropped = append(dropped, "x-bedrock-metadata."+name)
		}
	}
	dialect.Members(body.Get("requestMetadata"), func(name string, v jsontext.Value) {
		if _, ok := metadata[name]; !ok {
			metadata[name] = dialect.Strings(v)[0]
		}
	})
	if len(metadata) > 0 {
		patches = append(patches, dialect.Patch{Name: "requestMetadata", Value: marshal(metadata)})
	}
	return patches, dropped
}

// marshal returns strings as JSON, in a fixed order.
func marshal(v any) jsontext.Value {
	out, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return jsontext.Value("null") // strings can be written
	}
	return out
}

// platformError: all of its APIs answer errors as Amazon does. That the gateway's own
// credential is refused is said with 401, as others do.
func (bedrockAPI) platformError(_ form, status int, h http.Header, body []byte) *dialect.Error {
	e := bedrock.Error(status, sigv4.ErrorType(h), body)
	if sigv4.RefusesCredentials(e.Type) {
		e.Status = http.StatusUnauthorized
	}
	return e
}

func (bedrockAPI) framing() framing {
	return framing{bedrock.MediaType, func(r io.Reader) eventReader { return bedrock.NewFrames(r, maxEvent) }}
}
