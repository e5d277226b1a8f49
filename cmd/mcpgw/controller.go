package main

import (
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
them, and hand each data plane (mcpgw serve --controller) what its Gateway needs: over
gRPC and TLS, to those that show a token of the Gateway's ServiceAccount.

Any number of replicas serve data planes; the one that holds the lease writes.`,
		Example: "  mcpgw controller\n  mcpgw controller --address mcpgw-controller.mcpgw-system.svc:9978",
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	f.StringVar(&opts.Listen, "listen", ":"+app.DefaultControllerPort, "address for data planes")
	f.StringVar(&opts.Address, "address", "", "host:port at which data planes reach the controller (default mcpgw-controller.NAMESPACE.svc:"+app.DefaultControllerPort+")")
	f.DurationVar(&opts.KeyAge, "session-key-age", 7*24*time.Hour, "how long session keys are used before others follow; 0 for ever")
	f.StringVar(&opts.MetricsAddr, "metrics-addr", app.DefaultMetricsAddr, "address of the Prometheus metrics, or off")
	f.StringVar(&opts.ReadyAddr, "ready-addr", app.DefaultReadyAddr, "address of /readyz and /livez, or off")
	return cmd
}
