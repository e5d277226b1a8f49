package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/mcpgw/mcpgw/deploy/helm"
)

// RenderOptions configure [Render].
type RenderOptions struct {
	// Release and Namespace are the controller's.
	Release, Namespace string
	// ValuesFiles are YAML files with values of the chart, later ones over earlier ones; Set is name=value, over all
	// of them.
	ValuesFiles, Set []string
	// Version is this program's.
	Version string
}

// Render writes the manifests of the controller to out and what to do next to notes: those of the Helm chart, and the namespace.
func Render(out, notes io.Writer, opts RenderOptions) error {
	chart := helm.Options{Release: opts.Release, Namespace: opts.Namespace, Set: opts.Set}
	if regexp.MustCompile(`^v?\d+\.\d+\.\d+`).MatchString(opts.Version) { // there is an image of it
		chart.Tag = opts.Version
	}
	for _, name := range opts.ValuesFiles {
		text, err := os.ReadFile(name)
		if err != nil {
			return exit(ExitUsage, err)
		}
		chart.Values = append(chart.Values, text)
	}
	manifests, told, err := helm.Render(chart)
	if err != nil {
		return exit(ExitInvalidConfig, err)
	}
	namespace := fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels:
    pod-security.kubernetes.io/enforce: restricted
`, opts.Namespace)
	_, err = io.WriteString(out, namespace+string(manifests))
	_, errNotes := io.WriteString(notes, told)
	return errors.Join(err, errNotes)
}

// Ready asks a gateway or controller at url whether it is ready, until it is or wait is over.
func Ready(ctx context.Context, url string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, max(wait, readyOnce))
	defer cancel()
	for {
		err := askReady(ctx, url)
		if err == nil || wait == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(readyAgain):
		}
	}
}

// How long one question may take, and the pause before the next.
const (
	readyOnce  = 5 * time.Second
	readyAgain = 200 * time.Millisecond
)

func askReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyOnce)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return exit(ExitUsage, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return exit(ExitUnreachable, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready (%s)", url, response.Status)
	}
	return nil
}
