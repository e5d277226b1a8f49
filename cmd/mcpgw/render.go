package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

func newRender() *cobra.Command {
	opts := app.RenderOptions{Version: version}
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the manifests of the controller, for kubectl apply",
		Long: `Print what the Helm chart of the controller installs, with the namespace it is in,
for those without Helm. The values are the chart's: see deploy/helm/mcpgw/values.yaml.`,
		Example: "  mcpgw render --set agentgateway.enabled=true | kubectl apply -f -",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.Render(cmd.OutOrStdout(), cmd.ErrOrStderr(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Namespace, "namespace", "n", "mcpgw-system", "namespace of the controller")
	f.StringVar(&opts.Release, "release", "mcpgw", "name of the release, with which names begin")
	f.StringArrayVarP(&opts.ValuesFiles, "values", "f", nil, "file with values; can be given several times")
	f.StringArrayVar(&opts.Set, "set", nil, "a value, as NAME=VALUE; can be given several times")
	return cmd
}

func newReady() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "ready [URL]",
		Short:   "Ask whether a gateway or controller is ready",
		Example: "  mcpgw ready\n  mcpgw ready http://mcpgw-controller.mcpgw-system.svc:9093/readyz --wait 1m",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			url := "http://" + app.DefaultReadyAddr + "/readyz"
			if len(args) > 0 {
				url = args[0]
			}
			if err := app.Ready(cmd.Context(), url, wait); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to ask again while it is not (default: ask once)")
	return cmd
}
