package backends

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/mcpgw/mcpgw/internal/testaws"
)

// A function is invoked with a signature, waits or does not, over TLS that the system's authorities vouch for; its
// credentials are those of the environment.
func TestLambda(t *testing.T) {
	l := &testaws.Lambda{
		Region: "us-east-1", Credentials: aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI", SessionToken: "token"},
		ARN: "arn:aws:lambda:us-east-1:123456789012:function:echo", Qualifier: "$LATEST",
		Function: func([]byte) (string, string) {
			return `{"statusCode": 201, "headers": {"x-function": "echo", "content-type": "image/png"}, "body": "/wAB", "isBase64Encoded": true}`, ""
		},
	}
	api := httptest.NewTLSServer(l)
	t.Cleanup(api.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	backend := func(name, mode string) string {
		return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec:\n  type: AWS\n  aws: {accountId: \"123456789012\", lambda: {functionName: echo, invocationMode: %s, endpointURL: %q}}\n---\n", name, mode, api.URL) + route(name, "/"+name, name)
	}
	g := start(t, []string{
		"SSL_CERT_FILE=" + authority, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "AWS_SESSION_TOKEN=token", "AWS_EC2_METADATA_DISABLED=true",
	}, backend("sync", "Sync")+backend("async", "Async"))

	got := g.ask("POST", "", "/sync/x?a=b", `{"hello": "function"}`, "Content-Type", "application/json")
	if got.status != 201 || got.body != "\xff\x00\x01" || got.header.Get("X-Function") != "echo" || got.header.Get("Content-Type") != "image/png" {
		t.Errorf("%d %q %v", got.status, got.body, got.header)
	}
	var event struct {
		RawPath string `json:"raw_path"`
		Method  string
		Body    string
	}
	if err := json.Unmarshal([]byte(l.Events()[0]), &event); err != nil {
		t.Fatal(err)
	}
	if event.RawPath != "/sync/x?a=b" || event.Method != "POST" || event.Body != `{"hello": "function"}` {
		t.Errorf("the event is %+v", event)
	}
	if got := g.ask("POST", "", "/async", "later"); got.status != 202 || got.body != "" {
		t.Errorf("%d %q", got.status, got.body)
	}
	if events := l.Events(); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}
