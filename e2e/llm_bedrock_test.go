package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// The clients of OpenAI, Anthropic and Google reach Titan and Claude on Bedrock, whole and streamed,
// with credentials that the Security Token Service gives for the token of a pod (IRSA), once.
func TestLLMBedrock(t *testing.T) {
	t.Parallel()
	var given atomic.Int64
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "pod-token" || r.FormValue("RoleArn") != "arn:aws:iam::123456789012:role/r" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		given.Add(1)
		_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	stand := &testaws.Bedrock{Region: "eu-west-1", Credentials: aws.Credentials{AccessKeyID: "ASIA1", SecretAccessKey: "secret", SessionToken: "token"}}
	bedrock := httptest.NewServer(stand)
	t.Cleanup(bedrock.Close)
	host, standPort, err := net.SplitHostPort(bedrock.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	testgateway.WriteFile(t, token, "pod-token")
	env := []string{
		"AWS_WEB_IDENTITY_TOKEN_FILE=" + token, "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/r", "AWS_REGION=eu-west-1", "AWS_ENDPOINT_URL_STS=" + sts.URL,
		"AWS_CONFIG_FILE=" + token + ".none", "AWS_SHARED_CREDENTIALS_FILE=" + token + ".none", "AWS_EC2_METADATA_DISABLED=true",
	}
	models := map[string]string{"titan": "amazon.titan-text-lite-v1", "claude": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}
	g := startGateway(t, "serve", env, func(port int) string {
		out := fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: default}\nspec:\n  gatewayClassName: mcpgw\n  listeners: [{name: http, port: %d, protocol: HTTP}]\n---\n", port)
		for name, model := range models {
			out += route(name) + fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec:\n  type: AI\n  ai:\n    llm: {host: %s, port: %s, bedrock: {region: eu-west-1, model: %q}}\n---\n", name, host, standPort, model)
		}
		return out
	})
	for name, model := range models {
		base := fmt.Sprintf("http://127.0.0.1:%d/%s", g.Port, name)
		check := func(who, said string, err error, operation string) {
			t.Helper()
			asked, _ := stand.Last()
			if err != nil || said != "hi there" || asked.Operation != operation || asked.Model != model {
				t.Errorf("%s: %s: %q, %v; Bedrock was asked %s of %s", name, who, said, err, asked.Operation, asked.Model)
			}
		}
		openAI := openai.NewClient(option.WithBaseURL(base+"/v1"), option.WithAPIKey("client-key"), option.WithMaxRetries(0))
		ask := openai.ChatCompletionNewParams{Model: "any", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi there")}}
		whole, err := openAI.Chat.Completions.New(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		check("chat", whole.Choices[0].Message.Content, nil, "converse")
		stream := openAI.Chat.Completions.NewStreaming(t.Context(), ask)
		var acc openai.ChatCompletionAccumulator
		for stream.Next() {
			acc.AddChunk(stream.Current())
		}
		check("chat, streamed", acc.Choices[0].Message.Content, stream.Err(), "converse-stream")

		question := responses.ResponseNewParams{Model: "any", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi there")}}
		response, err := openAI.Responses.New(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		check("Responses", response.OutputText(), nil, "converse")
		deltas, said := openAI.Responses.NewStreaming(t.Context(), question), ""
		for deltas.Next() {
			if e := deltas.Current(); e.Type == "response.output_text.delta" {
				said += e.Delta
			}
		}
		check("Responses, streamed", said, deltas.Err(), "converse-stream")

		operation := map[string]string{"titan": "converse", "claude": "invoke"}[name]
		streaming := map[string]string{"titan": "converse-stream", "claude": "invoke-with-response-stream"}[name]
		client := anthropic.NewClient(anthropicoption.WithBaseURL(base), anthropicoption.WithAPIKey("client-key"), anthropicoption.WithMaxRetries(0))
		params := anthropic.MessageNewParams{Model: "any", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi there"))}}
		message, err := client.Messages.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		check("Messages", message.Content[0].Text, nil, operation)
		events := client.Messages.NewStreaming(t.Context(), params)
		var streamed anthropic.Message
		for events.Next() {
			if err := streamed.Accumulate(events.Current()); err != nil {
				t.Fatal(err)
			}
		}
		check("Messages, streamed", streamed.Content[0].Text, events.Err(), streaming)

		google, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: "client-key", Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: base}})
		if err != nil {
			t.Fatal(err)
		}
		generated, err := google.Models.GenerateContent(t.Context(), "any", genai.Text("hi there"), nil)
		if err != nil {
			t.Fatal(err)
		}
		check("generateContent", generated.Text(), nil, "converse")
		said = ""
		for r, err := range google.Models.GenerateContentStream(t.Context(), "any", genai.Text("hi there"), nil) {
			if err != nil {
				t.Fatal(err)
			}
			said += r.Text()
		}
		check("streamGenerateContent", said, nil, "converse-stream")
	}
	if _, asked := stand.Last(); asked != 16 || given.Load() != 1 {
		t.Errorf("%d requests were good, with credentials that were given %d times", asked, given.Load())
	}
}

// `mcpgw run` serves Bedrock by its API key, or by what AWS's usual variables lead to.
func TestLLMBedrockEnvironment(t *testing.T) {
	t.Parallel()
	stand := &testaws.Bedrock{Region: "eu-west-1", Credentials: aws.Credentials{AccessKeyID: "AKIA1", SecretAccessKey: "secret-1"}, Key: "bedrock-key"}
	bedrock := httptest.NewServer(stand)
	t.Cleanup(bedrock.Close)
	file := filepath.Join(t.TempDir(), "credentials")
	testgateway.WriteFile(t, file, "[mine]\naws_access_key_id = AKIA1\naws_secret_access_key = secret-1\n")
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	testgateway.WriteFile(t, filepath.Join(home, ".aws", "config"), "[profile mine]\nregion = eu-west-1\naws_access_key_id = AKIA1\naws_secret_access_key = secret-1\n")
	for name, tt := range map[string]struct {
		env    []string
		signed bool
	}{
		"AWS_BEARER_TOKEN_BEDROCK": {[]string{"AWS_REGION=eu-west-1", "AWS_CONFIG_FILE=" + file + ".none", "AWS_BEARER_TOKEN_BEDROCK=bedrock-key"}, false},
		"AWS_ACCESS_KEY_ID":        {[]string{"AWS_REGION=eu-west-1", "AWS_CONFIG_FILE=" + file + ".none", "AWS_ACCESS_KEY_ID=AKIA1", "AWS_SECRET_ACCESS_KEY=secret-1"}, true},
		"AWS_PROFILE":              {[]string{"AWS_REGION=eu-west-1", "AWS_CONFIG_FILE=" + file + ".none", "AWS_PROFILE=mine", "AWS_SHARED_CREDENTIALS_FILE=" + file}, true},
		"AWS_PROFILE and its file": {[]string{"HOME=" + home, "AWS_PROFILE=mine"}, true}, // which names the region
	} {
		t.Run(name, func(t *testing.T) {
			env := append(noProviders[:len(noProviders):len(noProviders)], "AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME="+bedrock.URL)
			p := testgateway.Run(t, append(env, tt.env...), binary, append([]string{"run", "--port", fmt.Sprint(testgateway.FreePort(t))}, own...)...)
			url := p.Writes(t, &p.Stdout, `LLM +(http://\S+/v1) `)[1]
			variable, _, _ := strings.Cut(name, " ")
			p.Writes(t, &p.Stdout, "LLM providers of "+variable)
			client := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("any"), option.WithMaxRetries(0))
			const model = "eu.amazon.nova-lite-v1:0"
			whole, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi there")}})
			if err != nil || whole.Choices[0].Message.Content != "hi there" {
				t.Fatalf("%v, %+v", err, whole)
			}
			listed, err := client.Models.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range listed.Data {
				names = append(names, m.ID)
			}
			if want := []string{"amazon.nova-lite-v1:0", "amazon.titan-embed-text-v2:0", model, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}; !slices.Equal(names, want) {
				t.Errorf("it lists %q, not %q", names, want)
			}
			last, _ := stand.Last()
			if last.Model != model || strings.HasPrefix(last.Header.Get("Authorization"), "AWS4-") != tt.signed {
				t.Errorf("Bedrock was asked %+v", last)
			}
			if shown := p.Stdout.String() + p.Stderr.String(); strings.Contains(shown, "bedrock-key") || strings.Contains(shown, "secret-1") {
				t.Errorf("a secret is shown:\n%s", shown)
			}
		})
	}
}
