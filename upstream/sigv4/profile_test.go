package sigv4_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

func TestProfileRegion(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := file("config", "[default]\nregion = eu-west-1\n[profile mine]\nregion = us-west-2\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n[profile base]\n[profile none]\n")
	creds := file("credentials", "[base]\naws_access_key_id = AKIA1\naws_secret_access_key = s\n[keys]\nregion = ap-south-1\naws_access_key_id = AKIA1\naws_secret_access_key = s\n")
	for _, tt := range []struct {
		profile sigv4.Profile
		want    string
	}{
		{sigv4.Profile{Config: cfg, Credentials: creds}, "eu-west-1"},
		{sigv4.Profile{Name: "mine", Config: cfg, Credentials: creds}, "us-west-2"},
		{sigv4.Profile{Name: "keys", Config: cfg, Credentials: creds}, "ap-south-1"},
		{sigv4.Profile{Name: "none", Config: cfg, Credentials: creds}, ""},
		{sigv4.Profile{Name: "lacking", Config: cfg, Credentials: creds}, ""},
		{sigv4.Profile{Config: cfg + ".none", Credentials: creds + ".none"}, ""},
		{sigv4.Profile{Config: file("broken", "[default\nregion"), Credentials: creds}, ""},
	} {
		if got := tt.profile.Region(t.Context()); got != tt.want {
			t.Errorf("%+v: %q, not %q", tt.profile, got, tt.want)
		}
	}
}
