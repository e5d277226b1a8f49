package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

func TestExplain(t *testing.T) {
	tests := []struct {
		what, want, wantErr string
	}{
		{what: "Backend.spec.mcp.failureMode", want: "Backend.spec.mcp.failureMode  <string>\n"},
		{what: "backend.spec.mcp.failureMode", want: "Values: FailOpen, FailClosed"},
		{what: "Backend.spec.mcp.failureMode", want: `Default: "FailOpen"`},
		{what: "Backend.spec.mcp.targets", want: "  name  <string>\n"},
		{what: "mg0107", want: "MG0107: a field is not known\n"},
		{what: "MG9999", wantErr: "there is no code MG9999"},
		{what: "Bakcend", wantErr: "there is no kind Bakcend. Did you mean Backend?"},
		{what: "Nonsense", wantErr: "there is no kind Nonsense. There are: "},
		{what: "Backend.spec.mpc", wantErr: "Backend.spec has no field mpc. Did you mean Backend.spec.mcp?"},
		{what: "Backend.spec.qqqq.x", wantErr: "Backend.spec has no field qqqq. It has: "},
	}
	for _, test := range tests {
		var out strings.Builder
		err := Explain(&out, test.what)
		if test.wantErr != "" {
			if err == nil || !strings.HasPrefix(err.Error(), test.wantErr) || CodeOf(err) != ExitUsage {
				t.Errorf("%s: error %v, want %q", test.what, err, test.wantErr)
			}
			continue
		}
		if err != nil || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: %v, %q is not in\n%s", test.what, err, test.want, out.String())
		}
	}
}

func TestExplainEverything(t *testing.T) {
	var all func(path string)
	all = func(path string) {
		if err := Explain(new(strings.Builder), path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		doc, _ := v1alpha1.Describe(path)
		for _, field := range doc.Fields {
			if strings.Count(field, ".") < 4 {
				all(doc.Kind + "." + field)
			}
		}
	}
	for _, kind := range v1alpha1.Kinds() {
		if kind != v1alpha1.KindGatewayParameters { // its depth is Kubernetes'
			all(kind)
		}
	}
	for _, code := range config.Codes() {
		if err := Explain(new(strings.Builder), code.ID); err != nil {
			t.Errorf("%s: %v", code.ID, err)
		}
	}
}

func TestWrap(t *testing.T) {
	word := strings.Repeat("x", 30)
	got := wrap(word+" "+word+" "+word+"\n\nend", "  ")
	if diff := cmp.Diff("  "+word+" "+word+"\n  "+word+"\n\n  end", got); diff != "" {
		t.Error(diff)
	}
}

func TestSchema(t *testing.T) {
	var out strings.Builder
	if err := PrintSchema(&out); err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(out.String())) {
		t.Error("the schema is not JSON")
	}
}
