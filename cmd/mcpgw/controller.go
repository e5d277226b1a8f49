package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

func newController(g *globals) *cobra.Command {
	opts := app.ControllerOptions{Version: version}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run data planes for the Gateways of a Kubernetes API server",
		Long: `Read the resources of a Kubernetes API server, write to their status what became of
them, deploy each Gateway as Pods of its own, and hand those (mcpgw serve --controller)
what the Gateway needs: over gRPC and TLS, for a token of its ServiceAccount.

Any number of replicas serve data planes; the one that holds the lease writes.`,
		Example: "  mcpgw controller --proxy-image ghcr.io/mcpgw/mcpgw:v1 --address mcpgw-controller.mcpgw-system.svc:9978",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if level := os.Getenv("KGW_LOG_LEVEL"); level != "" && !cmd.Flags().Changed("log-level") {
				g.logLevel = level
			}
			logger, err := g.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			opts.Logger = logger
			return app.Control(cmd.Context(), opts)
		},
	}
	clusterFlags(cmd, &opts.Kube)
	f := cmd.Flags()
	f.Lookup("no-status").Usage = "don't write status and deploy nothing: other replicas do"
	f.StringVar(&opts.Listen, "listen", ":"+app.DefaultControllerPort, "address for data planes")
	f.StringVar(&opts.Address, "address", "", "host:port at which data planes reach the controller (default mcpgw-controller.NAMESPACE.svc:"+app.DefaultControllerPort+")")
	f.StringVar(&opts.Image, "proxy-image", os.Getenv("MCPGW_PROXY_IMAGE"), "image of the data planes that are deployed (default: the variable MCPGW_PROXY_IMAGE)")
	f.DurationVar(&opts.KeyAge, "session-key-age", 7*24*time.Hour, "how long session keys are used before others follow; 0 for ever")
	f.StringVar(&opts.MetricsAddr, "metrics-addr", app.DefaultMetricsAddr, "address of the Prometheus metrics, or off")
	f.StringVar(&opts.ReadyAddr, "ready-addr", app.DefaultReadyAddr, "address of /readyz and /livez, or off")
	return cmd
}
