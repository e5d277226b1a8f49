package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/kube"
)

// TestGates reads the variables of upstream's controller.
func TestGates(t *testing.T) {
	for value, want := range map[string]bool{"": false, "true": true, "1": true, "T": true, "false": false, "0": false} {
		o := KubeOptions{LookupEnv: func(name string) (string, bool) { return value, name == kube.ExperimentalVariable }}
		if got, err := o.gates(slog.New(slog.DiscardHandler)); err != nil || got != want {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
	o := KubeOptions{LookupEnv: func(string) (string, bool) { return "yes", true }}
	var log bytes.Buffer
	if _, err := o.gates(slog.New(slog.NewTextHandler(&log, nil))); err == nil || !strings.Contains(err.Error(), `is true or false, not "yes"`) {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(log.String(), "KGW_GLOBAL_POLICY_NAMESPACE") {
		t.Errorf("what is not served is not told: %s", &log)
	}
}

// TestControllerOptions refuses what a controller can't do, before anything is asked.
func TestControllerOptions(t *testing.T) {
	for what, opts := range map[string]ControllerOptions{
		"--session-key-age": {KeyAge: kube.MinKeyAge - 1, Image: "x"},
		"--proxy-image":     {KeyAge: kube.MinKeyAge},
		"--publish-service": {Image: "x", Kube: KubeOptions{Service: "x"}},
	} {
		if err := Control(t.Context(), opts); CodeOf(err) != ExitUsage || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, opts := range map[string]ServeOptions{
		"--controller \"x\"":  {Follow: &FollowOptions{Address: "x", TokenFile: "t"}},
		"session keys come":   {Follow: &FollowOptions{Address: "x:1", TokenFile: "t"}, SessionKeys: "k"},
		"--controller-token-": {Follow: &FollowOptions{Address: "x:1"}},
		"--mcp-config":        {Follow: &FollowOptions{Address: "x:1", TokenFile: "t"}, MCPConfig: "m"},
	} {
		opts.Logger = slog.New(slog.DiscardHandler)
		if err := Serve(t.Context(), opts); CodeOf(err) != ExitUsage || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
