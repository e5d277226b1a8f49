// Package helm carries the Helm chart of the controller, and renders it as Helm does, for those without Helm: [Render].
// The chart is in the folder mcpgw; internal/app calls the package.
package helm

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

//go:embed all:mcpgw
var files embed.FS

// Options say how the chart is rendered.
type Options struct {
	// Release and Namespace are what Helm would be told.
	Release, Namespace string
	// Tag is the image's, where the values have none; "" is the chart's appVersion.
	Tag string
	// Values are YAML documents, of which later ones lie over earlier ones, and Set is name=value, over all of
	// them.
	Values [][]byte
	Set    []string
}

// Render returns the manifests of the chart, without its tests, and its notes. Values that the chart's schema refuses are an
// error.
func Render(opts Options) (manifests []byte, notes string, err error) {
	values := map[string]any{}
	for i, text := range opts.Values {
		var more map[string]any
		if err := yaml.Unmarshal(text, &more); err != nil {
			return nil, "", fmt.Errorf("values %d: %w", i+1, err)
		}
		values = loader.MergeMaps(values, more)
	}
	for _, s := range opts.Set {
		if err := strvals.ParseInto(s, values); err != nil {
			return nil, "", fmt.Errorf("--set %s: %w", s, err)
		}
	}
	buffered, err := buffer()
	if err != nil {
		return nil, "", err
	}
	chart, err := loader.LoadFiles(buffered)
	if err != nil {
		return nil, "", fmt.Errorf("reading the chart: %w", err)
	}
	if opts.Tag != "" {
		chart.Metadata.AppVersion = opts.Tag
	}
	release := common.ReleaseOptions{Name: opts.Release, Namespace: opts.Namespace, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, "", err
	}
	rendered, err := engine.Render(chart, top)
	if err != nil {
		return nil, "", fmt.Errorf("rendering the chart: %w", err)
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		text := strings.TrimSpace(rendered[name])
		switch {
		case path.Base(name) == "NOTES.txt":
			notes = text + "\n"
		case text == "" || strings.Contains(name, "/tests/") || strings.HasPrefix(path.Base(name), "_"):
		default:
			fmt.Fprintf(&out, "---\n%s\n", text)
		}
	}
	return out.Bytes(), notes, nil
}

// buffer returns the files of the chart as the loader wants them.
func buffer() ([]*archive.BufferedFile, error) {
	chart, err := fs.Sub(files, "mcpgw")
	if err != nil {
		return nil, err
	}
	var out []*archive.BufferedFile
	err = fs.WalkDir(chart, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(chart, name)
		out = append(out, &archive.BufferedFile{Name: name, Data: text})
		return err
	})
	return out, err
}
