package gateway

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/configtest"
)

var update = flag.Bool("update", false, "write the golden files")

// Every mistake that is found by compiling has a file, and the message is asserted.
func TestFixtures(t *testing.T) {
	bad, good := configtest.Run(t, configtest.Options{Dir: "testdata", Update: *update, Check: func(res *config.Resources) *config.Report {
		_, report := Compile(res, nil)
		return report
	}})
	if bad < 40 || good < 3 {
		t.Errorf("%d bad and %d good fixtures", bad, good)
	}
}

// The secrets of the fixtures are in none of the messages.
func TestFixturesHideSecrets(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.bad.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "hunter") {
			t.Errorf("%s shows a secret", path)
		}
	}
}
