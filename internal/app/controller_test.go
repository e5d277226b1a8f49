package app

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpgw/mcpgw/delivery"
	"github.com/mcpgw/mcpgw/kube"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A describer notes the series that are registered with it, by name, with their labels.
type describer map[string]string

func (d describer) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 16)
	c.Describe(descriptions)
	close(descriptions)
	for desc := range descriptions {
		m := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(desc.String())
		d[m[1]] = strings.ReplaceAll(m[2], ",", " ")
	}
	return nil
}

func (d describer) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		_ = d.Register(c) // it returns nil
	}
}

func (d describer) Unregister(prometheus.Collector) bool { return false }

// TestControllerMetrics: docs/kubernetes.md has each series of the controller, with its labels, and no other.
func TestControllerMetrics(t *testing.T) {
	series := describer{}
	kube.NewMetrics(series)
	delivery.NewMetrics(series)
	series.MustRegister(telemetry.BuildInfo("v1"))
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`mcpgw_[^|]*) \\|([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			documented[strings.Trim(name, "`")] = strings.Trim(row[2], " `")
		}
	}
	for name, labels := range series {
		if got, ok := documented[name]; !ok || got != labels {
			t.Errorf("%s has the labels %q, and documented are %q, %v", name, labels, got, ok)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("%s is documented, and not there", name)
	}
}
