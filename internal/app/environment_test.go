package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/gateway"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// The providers of the environment are resources without a mistake, and one of its keys is
// nowhere but in a Secret.
func TestEnvironment(t *testing.T) {
	env := map[string]string{
		"OPENAI_API_KEY": "sk-secret-1", "ANTHROPIC_AUTH_TOKEN": "sk-secret-2", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9000/proxy/",
		"GOOGLE_API_KEY": " sk-secret-3\n", "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/", "AZURE_OPENAI_API_KEY": "sk-secret-4",
		"AZURE_OPENAI_DEPLOYMENT": "mine", "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_GENAI_USE_VERTEXAI": "true", "GEMINI_API_KEY": "",
		"AWS_BEARER_TOKEN_BEDROCK": "sk-secret-5", "AWS_ACCESS_KEY_ID": "unused", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:9001",
	}
	file, variables, err := environmentFile(lookup(env), 8080)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "AWS_BEARER_TOKEN_BEDROCK"}
	if diff := cmp.Diff(want, variables); diff != "" {
		t.Error(diff)
	}
	res, report := config.LoadFiles([]config.File{{Name: "environment.yaml", Text: file}})
	_, compiled := gateway.Compile(res, nil)
	report.Merge(compiled)
	if len(report.Problems) > 0 {
		t.Errorf("problems: %+v", report.Problems)
	}
	shown, err := dump(res)
	if err != nil || strings.Contains(string(shown), "sk-secret") {
		t.Errorf("the configuration dump shows a key: %v", err)
	}
	if got := string(res.Secrets[len(res.Secrets)-1].Data["Authorization"]); !strings.HasPrefix(got, "sk-secret-") || strings.TrimSpace(got) != got {
		t.Errorf("a key is %q", got)
	}
	var names []string
	var anthropic, bedrock *v1alpha1.NamedLLMProvider
	for _, g := range res.Backends[0].Spec.AI.PriorityGroups {
		names = append(names, g.Providers[0].Name)
		if g.Providers[0].Anthropic != nil {
			anthropic = &g.Providers[0]
		}
		if g.Providers[0].Bedrock != nil {
			bedrock = &g.Providers[0]
		}
	}
	if diff := cmp.Diff([]string{"openai", "azure", "anthropic", "gemini", "vertex", "bedrock"}, names); diff != "" {
		t.Error(diff)
	}
	if anthropic.Host != "127.0.0.1" || anthropic.Port != 9000 || anthropic.Path.Prefix != "/proxy/v1" || *anthropic.AuthHeader.Prefix != "Bearer " {
		t.Errorf("Anthropic is at %+v", anthropic)
	}
	if bedrock.Host != "127.0.0.1" || bedrock.Port != 9001 || bedrock.Path != nil || bedrock.Bedrock.Region != "eu-west-1" || bedrock.Bedrock.AuthToken.SecretRef.Name != "bedrock" {
		t.Errorf("Bedrock is %+v, %+v", bedrock, bedrock.Bedrock)
	}
}

// What leads to AWS credentials names Bedrock where a region is set, too: alone it may be there for
// something else.
func TestEnvironmentAWS(t *testing.T) {
	for _, variable := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		file, _, err := environmentFile(lookup(map[string]string{variable: "x"}), 8080)
		if file != nil || err != nil {
			t.Errorf("%s alone: %s, %v", variable, file, err)
		}
		file, variables, err := environmentFile(lookup(map[string]string{variable: "x", "AWS_REGION": "eu-central-1"}), 8080)
		if err != nil || len(variables) != 1 || variables[0] != variable {
			t.Fatalf("%s: %v, %v", variable, variables, err)
		}
		res, report := config.LoadFiles([]config.File{{Name: "environment.yaml", Text: file}})
		p := res.Backends[0].Spec.AI.PriorityGroups[0].Providers[0]
		if len(report.Problems) > 0 || len(res.Secrets) > 0 || p.Bedrock == nil || p.Bedrock.Region != "eu-central-1" || p.Bedrock.Auth != nil || p.Bedrock.AuthToken != nil {
			t.Errorf("%s: %+v, %+v", variable, report.Problems, p.Bedrock)
		}
	}
}

// The region may stand in the shared files only.
func TestEnvironmentProfile(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(home, "other")
	for path, text := range map[string]string{
		filepath.Join(home, ".aws", "config"): "[default]\nregion = eu-west-1\n[profile mine]\nregion = us-west-2\n",
		other:                                 "[profile mine]\nregion = ap-south-1\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		env  map[string]string
		want string // the region; "" is no provider
	}{
		{map[string]string{"AWS_ACCESS_KEY_ID": "x"}, "eu-west-1"},
		{map[string]string{"AWS_PROFILE": "mine"}, "us-west-2"},
		{map[string]string{"AWS_PROFILE": "mine", "AWS_CONFIG_FILE": other}, "ap-south-1"},
		{map[string]string{"AWS_PROFILE": "mine", "AWS_REGION": "eu-central-1"}, "eu-central-1"},
		{map[string]string{"AWS_PROFILE": "lacking"}, ""},
		{map[string]string{}, ""},
	} {
		tt.env["HOME"] = home
		file, _, err := environmentFile(lookup(tt.env), 8080)
		if err != nil || (file == nil) != (tt.want == "") || !strings.Contains(string(file), tt.want) {
			t.Errorf("%v: %v\n%s", tt.env, err, file)
		}
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string // in the error; "" is none
	}{
		{"nothing", nil, ""},
		{"empty", map[string]string{"OPENAI_API_KEY": " "}, ""},
		{"a project alone", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}, ""},
		{"no endpoint", map[string]string{"AZURE_OPENAI_API_KEY": "secret"}, "AZURE_OPENAI_ENDPOINT is not"},
		{"no URL", map[string]string{"OPENAI_BASE_URL": "secret:9"}, "OPENAI_BASE_URL is not an http or https URL"},
		{"a password", map[string]string{"OPENAI_BASE_URL": "http://u:secret@h/v1"}, "OPENAI_BASE_URL is not an http or https URL"},
		{"https elsewhere", map[string]string{"OPENAI_BASE_URL": "https://h:8443/v1"}, "on port 443 only"},
		{"a circle", map[string]string{"ANTHROPIC_API_KEY": "secret", "ANTHROPIC_BASE_URL": "http://localhost:8080"}, "ANTHROPIC_BASE_URL leads to this gateway itself"},
		{"a region alone", map[string]string{"AWS_REGION": "eu-west-1"}, ""},
		{"no region", map[string]string{"AWS_PROFILE": "p", "AWS_REGION": "secret/x"}, "the AWS region, of AWS_REGION"},
		{"no key", map[string]string{"GEMINI_API_KEY": "secret\nsecret"}, "GEMINI_API_KEY holds"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file, _, err := environmentFile(lookup(test.env), 8080)
			if test.want == "" {
				if file != nil || err != nil {
					t.Errorf("%s, %v", file, err)
				}
				return
			}
			var e *ExitError
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") || !errors.As(err, &e) || e.Code != ExitUsage {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestAskLine(t *testing.T) {
	for want, models := range map[string][]string{
		`"model":"gpt-5-nano"`:       {"gpt-5", "gpt-5-nano", "gpt-5-nano-2025-08-07", "gpt-4o-mini-tts", "text-embedding-3-small"},
		`"model":"claude-haiku-4-5"`: {"claude-opus-4-5", "claude-haiku-4-5"},
		`"model":"llama3.2:1b"`:      {"llama3.2:1b", "nomic-embed-text"},
		"http://h/v1/models":         nil,
	} {
		if got := askLine(endpoint{url: "http://h/v1", path: "/v1"}, models); !strings.Contains(got, want) || strings.Contains(got, "chat") != (models != nil) {
			t.Errorf("of %v: %s", models, got)
		}
	}
}
