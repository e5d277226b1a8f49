package telemetry

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/telemetry.md lists each series and each field of the access log, with its labels,
// and no other.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	log, metrics, ok := strings.Cut(doc, "## Metrics\n")
	if !ok {
		t.Fatal("no metrics")
	}
	log, _, _ = strings.Cut(log, "## Access logs of policies")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(log, -1) {
		for _, name := range strings.Split(m[1], ", ") {
			documented[strings.Trim(name, "`")] = true
		}
	}
	fields := map[string]bool{}
	for _, m := range regexp.MustCompile(`[{,]"([a-z_.]+)":`).FindAllStringSubmatch(logged(full(), JSON)+logged(answered(), JSON), -1) {
		fields[m[1]] = true
	}
	for name := range documented {
		if !fields[name] {
			t.Errorf("the field %s is not logged", name)
		}
	}
	for name := range fields {
		if !documented[name] {
			t.Errorf("the field %s is missing", name)
		}
	}

	m := fixed()
	a := &Account{Metrics: m}
	a.End(full())
	a.End(answered())
	unpriced := answered()
	unpriced.LLM.Priced = false
	a.End(unpriced)
	m.LLMAttempt("b", "p", "answered")
	m.Mirrored("b", "sent")
	m.CELError("p")
	m.Limited("p", "l")
	m.LimitForgotten("p", "l")
	m.CSRFShadowed("p")
	m.Extension("e", "", "ok")
	m.AccessLogDropped("l", 1)
	m.Authentication("jwt", "accepted")
	m.KeysFetched("i", true)
	m.StreamOpened(GetStream)
	m.TargetUp("b", "t", true)
	m.BreakerOpened("b", "t")
	m.Listed("b", "t", true)
	m.Catalogue("b", "t", CatalogueSize{}, nil)
	m.Reloaded("h", full().Start)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		row := regexp.MustCompile("(?m)^\\| `" + f.GetName() + "` \\|([^|]*)\\|").FindStringSubmatch(metrics)
		if row == nil {
			t.Errorf("the metric %s is missing", f.GetName())
			continue
		}
		for _, l := range f.GetMetric()[0].GetLabel() {
			if strings.TrimSpace(row[1]) != "the same" && !strings.Contains(row[1], l.GetName()) {
				t.Errorf("the label %s of %s is missing", l.GetName(), f.GetName())
			}
		}
	}
	if rows := strings.Count(metrics, "\n| `"); rows != len(families) {
		t.Errorf("%d metrics are described, there are %d", rows, len(families))
	}
}
