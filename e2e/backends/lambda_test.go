package backends

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/internal/testgateway"
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
		return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec:\n  type: AWS\n  aws: {accountId: \"123456789012\", lambda: {functionName: echo, invocationMode: %s, endpointURL: %q}}\n---\n", name, mode, api.URL) + testgateway.Route(name, "/"+name, name, "")
	}
	g := start(t, []string{
		"SSL_CERT_FILE=" + authority, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "AWS_SESSION_TOKEN=token", "AWS_EC2_METADATA_DISABLED=true",
	}, backend("sync", "Sync")+backend("async", "Async"))

	got := g.Ask(t, "POST", "/sync/x?a=b", strings.NewReader(`{"hello": "function"}`), "Content-Type", "application/json")
	if got.Status != 201 || got.Body != "\xff\x00\x01" || got.Header.Get("X-Function") != "echo" || got.Header.Get("Content-Type") != "image/png" {
		t.Errorf("%d %q %v", got.Status, got.Body, got.Header)
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
	if got := g.Ask(t, "POST", "/async", strings.NewReader("later")); got.Status != 202 || got.Body != "" {
		t.Errorf("%d %q", got.Status, got.Body)
	}
	if events := l.Events(); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}
