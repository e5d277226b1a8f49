package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// envBackend is the Backend of the providers that the environment names.
const envBackend = "llm"

// An envProvider is a provider that variables of the environment name.
type envProvider struct {
	name     string // of the provider, which clients may put before a model
	variable string // that names it, for people
	vendor   string // the vendor's block
	block    object
	more     object   // beside the block
	key      string   // "" when the block needs none
	models   []string // that it is asked for; none: what no other one lists
}

type object = map[string]any

// An environment reads variables, as os.LookupEnv does.
type environment struct {
	lookup func(string) (string, bool)
	port   int // that the gateway itself has
}

// get returns the first of the variables that is not empty, and its name.
func (e *environment) get(names ...string) (name, value string) {
	for _, n := range names {
		if v, _ := e.lookup(n); strings.TrimSpace(v) != "" {
			return n, strings.TrimSpace(v)
		}
	}
	return "", ""
}

// environmentFile returns the resources for the providers that the environment names, and the
// variables that name them; no file when there are none. A request is for the provider that
// its model belongs to. Where several have a model they are asked in this order.
func environmentFile(lookup func(string) (string, bool), port int) (file []byte, variables []string, err error) {
	if lookup == nil {
		return nil, nil, nil
	}
	e := &environment{lookup, port}
	var providers []envProvider
	for _, of := range []func() (*envProvider, error){e.openAI, e.azure, e.anthropic, e.gemini, e.vertex, e.bedrock} {
		p, err := of()
		if err != nil {
			return nil, nil, err
		}
		if p != nil {
			providers = append(providers, *p)
			variables = append(variables, p.variable)
		}
	}
	if len(providers) == 0 {
		return nil, nil, nil
	}
	file, err = resourcesOf(providers)
	return file, variables, err
}

// openAIModels are OpenAI's, as far as their names tell.
var openAIModels = []string{
	"gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "ft:*", "codex-*", "computer-use-*", "text-embedding-3-*", "text-embedding-ada-*",
	"omni-moderation-*", "text-moderation-*", "whisper-*", "tts-*", "dall-e-*", "sora-*", "davinci-*", "babbage-*",
}

// openAI: a server at another place than OpenAI's has any models, and may want no key.
func (e *environment) openAI() (*envProvider, error) {
	variable, key := e.get("OPENAI_API_KEY")
	base, at := e.get("OPENAI_BASE_URL", "OPENAI_API_BASE")
	if key == "" && at == "" {
		return nil, nil
	}
	p := &envProvider{name: "openai", variable: variable, vendor: "openai", block: object{}, key: key, models: openAIModels}
	if at == "" {
		return p, nil
	}
	p.models = nil
	if key == "" {
		p.variable, p.key = base, "none"
	}
	return p, e.at(p, base, at, "")
}

func (e *environment) anthropic() (*envProvider, error) {
	variable, key := e.get("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
	if key == "" {
		return nil, nil
	}
	p := &envProvider{name: "anthropic", variable: variable, vendor: "anthropic", block: object{}, key: key, models: []string{"claude-*"}, more: object{}}
	if variable == "ANTHROPIC_AUTH_TOKEN" {
		p.more["authHeader"] = object{"headerName": "Authorization", "prefix": "Bearer "}
	}
	if base, at := e.get("ANTHROPIC_BASE_URL"); at != "" {
		return p, e.at(p, base, at, "/v1")
	}
	return p, nil
}

// googleModels are Google's.
var googleModels = []string{"gemini-*", "gemma-*", "text-embedding-00*", "embedding-00*", "learnlm-*", "imagen-*", "veo-*", "tunedModels/*"}

func (e *environment) gemini() (*envProvider, error) {
	variable, key := e.get("GEMINI_API_KEY", "GOOGLE_API_KEY")
	if key == "" {
		return nil, nil
	}
	p := &envProvider{name: "gemini", variable: variable, vendor: "gemini", block: object{}, key: key, models: googleModels}
	if base, at := e.get("GOOGLE_GEMINI_BASE_URL", "GEMINI_BASE_URL"); at != "" {
		return p, e.at(p, base, at, "/v1beta")
	}
	return p, nil
}

// azure: what a client asks for is the name of a deployment, unless one is named.
func (e *environment) azure() (*envProvider, error) {
	base, at := e.get("AZURE_OPENAI_ENDPOINT")
	if at == "" {
		if variable, key := e.get("AZURE_OPENAI_API_KEY"); key != "" {
			return nil, exit(ExitUsage, fmt.Errorf("%s is set, and AZURE_OPENAI_ENDPOINT is not: set it to https://NAME.openai.azure.com", variable))
		}
		return nil, nil
	}
	_, key := e.get("AZURE_OPENAI_API_KEY")
	_, version := e.get("AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION")
	if version == "" {
		version = "v1"
	}
	p := &envProvider{name: "azure", variable: base, vendor: "azureOpenAI", block: object{"endpoint": at, "apiVersion": version}, key: key, models: openAIModels}
	if _, name := e.get("AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_NAME"); name != "" {
		p.block["deploymentName"], p.models = name, []string{name}
	}
	u, err := e.url(base, at)
	if err != nil {
		return nil, err
	}
	p.block["endpoint"] = u.Hostname()
	if u.Scheme == "http" {
		return p, e.at(p, base, u.Scheme+"://"+u.Host, "/openai")
	}
	return p, nil
}

// vertex is Vertex AI where the application default credentials are.
func (e *environment) vertex() (*envProvider, error) {
	variable, project := e.get("GOOGLE_CLOUD_PROJECT")
	_, file := e.get("GOOGLE_APPLICATION_CREDENTIALS")
	_, wanted := e.get("GOOGLE_GENAI_USE_VERTEXAI")
	if yes, _ := strconv.ParseBool(wanted); project == "" || file == "" && !yes {
		return nil, nil
	}
	_, location := e.get("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION")
	if location == "" {
		location = "global"
	}
	return &envProvider{
		name: "vertex", variable: variable, vendor: "vertexAI", block: object{"project": project, "location": location}, models: googleModels,
	}, nil
}

// bedrockModels are the ids of models, those of inference profiles, which begin with where they
// are served, and ARNs.
var bedrockModels = []string{
	"ai21.*", "amazon.*", "anthropic.*", "cohere.*", "deepseek.*", "google.*", "luma.*", "meta.*", "minimax.*", "mistral.*", "moonshot*", "nvidia.*", "openai.*",
	"qwen.*", "stability.*", "twelvelabs.*", "writer.*", "zai.*", "us.*", "us-gov.*", "eu.*", "apac.*", "jp.*", "au.*", "ca.*", "global.*", "arn:aws*",
}

// region returns the AWS region: that of the environment, else that of the profile which AWS_PROFILE names, or of the default one.
func (e *environment) region() string {
	_, region := e.get("AWS_REGION", "AWS_DEFAULT_REGION")
	if region != "" {
		return region
	}
	_, name := e.get("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
	_, home := e.get("HOME", "USERPROFILE")
	p := sigv4.Profile{Name: name}
	for _, f := range []struct {
		variable, name string
		path           *string
	}{{"AWS_CONFIG_FILE", "config", &p.Config}, {"AWS_SHARED_CREDENTIALS_FILE", "credentials", &p.Credentials}} {
		if _, *f.path = e.get(f.variable); *f.path == "" && home != "" {
			*f.path = filepath.Join(home, ".aws", f.name)
		}
	}
	return p.Region(context.Background())
}

// bedrock is Amazon Bedrock where there is an API key of its, or a region and something that leads to
// credentials. Those alone may be there for something else.
func (e *environment) bedrock() (*envProvider, error) {
	variable, key := e.get("AWS_BEARER_TOKEN_BEDROCK")
	if key == "" {
		variable, _ = e.get("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
		if variable == "" {
			return nil, nil
		}
	}
	region := e.region()
	if region == "" && key == "" {
		return nil, nil
	}
	p := &envProvider{name: "bedrock", variable: variable, vendor: "bedrock", block: object{}, key: key, models: bedrockModels}
	if region != "" {
		if strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, exit(ExitUsage, errors.New("the AWS region, of AWS_REGION or the profile, is not the name of a region, such as us-east-1"))
		}
		p.block["region"] = region
	}
	if base, at := e.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME"); at != "" {
		return p, e.at(p, base, at, "")
	}
	return p, nil
}

// at places a provider at a URL, to whose path the version of its API is added.
func (e *environment) at(p *envProvider, variable, at, version string) error {
	u, err := e.url(variable, at)
	if err != nil {
		return err
	}
	if p.more == nil {
		p.more = object{}
	}
	port := 80
	if u.Scheme == "https" {
		port = 443
	}
	if u.Port() != "" {
		port, _ = strconv.Atoi(u.Port())
	}
	if (u.Scheme == "https") != (port == 443) {
		return exit(ExitUsage, fmt.Errorf("%s: https is served on port 443 only, and http on any other", variable))
	}
	p.more["host"], p.more["port"] = u.Hostname(), port
	if prefix := strings.TrimSuffix(u.Path, "/") + version; prefix != "" {
		p.more["path"] = object{"prefix": prefix}
	}
	return nil
}

// url returns the URL in a variable. One that leads back here would lead requests in a circle.
func (e *environment) url(variable, at string) (*url.URL, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, exit(ExitUsage, fmt.Errorf("%s is not an http or https URL without user, query and fragment", variable))
	}
	ip := net.ParseIP(u.Hostname())
	if u.Port() == strconv.Itoa(e.port) && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil, exit(ExitUsage, fmt.Errorf("%s leads to this gateway itself: unset it here, it is for the clients", variable))
	}
	return u, nil
}

// resourcesOf returns a Backend of the providers, each a group of its own, their Secrets, and
// the HTTPRoute to it.
func resourcesOf(providers []envProvider) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("# The providers that the environment names.\n")
	write := func(apiVersion, kind, name string, rest object) error {
		rest["apiVersion"], rest["kind"], rest["metadata"] = apiVersion, kind, object{"name": name}
		text, err := json.MarshalIndent(rest, "", "  ") // which is YAML, too
		out.WriteString("---\n")
		out.Write(text)
		out.WriteByte('\n')
		return err
	}
	var groups []any
	for i := range providers {
		p := &providers[i]
		if strings.IndexFunc(p.key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
			return nil, exit(ExitUsage, fmt.Errorf("%s holds spaces, line ends or other characters that no key has", p.variable))
		}
		if p.key != "" {
			p.block["authToken"] = object{"secretRef": object{"name": p.name}}
			if err := write("v1", "Secret", p.name, object{"stringData": object{"Authorization": p.key}}); err != nil {
				return nil, err
			}
		}
		provider := object{"name": p.name, p.vendor: p.block}
		if len(p.models) > 0 {
			provider["models"] = p.models
		}
		for k, v := range p.more {
			provider[k] = v
		}
		groups = append(groups, object{"providers": []any{provider}})
	}
	err := write(v1alpha1.GroupName+"/v1alpha1", v1alpha1.KindBackend, envBackend, object{"spec": object{"type": "AI", "ai": object{"priorityGroups": groups}}})
	if err != nil {
		return nil, err
	}
	var matches []any
	for _, prefix := range []string{"/v1", "/v1beta", "/v1alpha"} {
		matches = append(matches, object{"path": object{"type": "PathPrefix", "value": prefix}})
	}
	err = write("gateway.networking.k8s.io/v1", "HTTPRoute", envBackend, object{"spec": object{
		"parentRefs": []any{object{"name": "default"}},
		"rules": []any{object{
			"matches":     matches,
			"backendRefs": []any{object{"group": v1alpha1.GroupName, "kind": v1alpha1.KindBackend, "name": envBackend}},
		}},
	}})
	return out.Bytes(), err
}
