package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

func newServe(g *globals) *cobra.Command {
	opts := app.ServeOptions{Version: version}
	cmd := &cobra.Command{
		Use:   "serve {-f PATH... | --kube | --controller HOST:PORT}",
		Short: "Serve a gateway from files, a Kubernetes API server or a controller",
		Long: `Serve a gateway from YAML files and directories. They are watched: a change is live
at once, and one with a mistake changes nothing.

With --kube the resources come from a Kubernetes API server, and what became of them
is written to their status. With --controller they come from ` + "`mcpgw controller`" + `, which
has the API server to itself; so do the session keys. Files given with -f are served beside.`,
		Example: "  mcpgw serve -f gateway.yaml\n  mcpgw serve -f backends/ -f policies.yaml\n  mcpgw serve --kube --publish-address 203.0.113.7",
	}
	serveFlags(cmd, &opts)
	k, follow := new(app.KubeOptions), new(app.FollowOptions)
	inCluster := cmd.Flags().Bool("kube", false, "serve the resources of a Kubernetes API server")
	clusterFlags(cmd, k)
	followFlags(cmd, follow)
	cmd.MarkFlagsMutuallyExclusive("kube", "controller")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *inCluster {
			opts.Kube = k
		}
		if cmd.Flags().Changed("controller") {
			opts.Follow = follow
		}
		return serve(cmd, g, opts)
	}
	return cmd
}

// followFlags adds the flags of following a controller.
func followFlags(cmd *cobra.Command, o *app.FollowOptions) {
	f := cmd.Flags()
	f.StringVar(&o.Address, "controller", "", "HOST:PORT of a controller, to serve what it hands out")
	f.StringVar(&o.CAFile, "controller-ca-file", "", "file with the authorities that vouch for the controller (default: the system's)")
	f.StringVar(&o.TokenFile, "controller-token-file", "", "file with a token of the Gateway's ServiceAccount, for the audience mcpgw-controller")
	f.StringVar(&o.CacheFile, "controller-cache", "", "file that keeps what came last, secrets included, for a start without the controller")
}

// clusterFlags adds the flags of reading a cluster's resources.
func clusterFlags(cmd *cobra.Command, k *app.KubeOptions) {
	k.LookupEnv = os.LookupEnv
	f := cmd.Flags()
	f.StringVar(&k.Kubeconfig, "kubeconfig", "", "kubeconfig file (default: as kubectl finds it, else as a Pod does)")
	f.StringVar(&k.Context, "context", "", "context of the kubeconfig (default: its current one)")
	f.StringArrayVarP(&k.Namespaces, "namespace", "n", nil, "namespace to watch; can be given several times (default: all)")
	f.StringVar(&k.Controller, "controller-name", "", "controllerName of the GatewayClasses to serve (default kgateway.dev/agentgateway)")
	f.StringArrayVar(&k.Addresses, "publish-address", nil, "IP address or host name at which clients reach the Gateways, for their status; can be given several times")
	f.StringVar(&k.Service, "publish-service", "", "NAMESPACE/NAME of the Service through which clients reach the Gateways, for their status")
	f.BoolVar(&k.NoStatus, "no-status", false, "don't write status")
	f.StringVar(&k.LeaseNamespace, "lease-namespace", "", "namespace in which replicas agree on which of them writes status (default: that of this Pod)")
}

func newCRDs() *cobra.Command {
	return &cobra.Command{
		Use:     "crds",
		Short:   "Print the custom resource definitions, for kubectl apply",
		Example: "  mcpgw crds | kubectl apply --server-side -f -",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := app.CRDs()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

func newRun(g *globals) *cobra.Command {
	opts := app.ServeOptions{Version: version, Demo: true, LookupEnv: os.LookupEnv, Loopback: true}
	cmd := &cobra.Command{
		Use:   "run [-f PATH... | --mcp-config FILE]",
		Short: "Serve on loopback: the built-in demo, files, or the servers of an MCP client",
		Long: `Serve a gateway on loopback and say how to use it. Without files it serves the
built-in demo: two MCP servers and a mock LLM that this binary carries. Nothing is
written to disk.

In place of the mock LLM it serves, at /v1 and /v1beta, the providers that variables
name: OPENAI_API_KEY, ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, GEMINI_API_KEY or
GOOGLE_API_KEY, AZURE_OPENAI_ENDPOINT with AZURE_OPENAI_API_KEY or Entra ID's,
GOOGLE_CLOUD_PROJECT with GOOGLE_APPLICATION_CREDENTIALS, and AWS_BEARER_TOKEN_BEDROCK,
or AWS_REGION, or a region in ~/.aws/config, with AWS_ACCESS_KEY_ID, AWS_PROFILE or a
role's. OPENAI_BASE_URL, ANTHROPIC_BASE_URL, GOOGLE_GEMINI_BASE_URL and
AWS_ENDPOINT_URL_BEDROCK_RUNTIME place them elsewhere; OPENAI_BASE_URL alone is a server
that wants no key. The model says who is asked: gpt-*, o*, claude-*, gemini-*,
anthropic.*, amazon.*, or PROVIDER/MODEL.

--mcp-config takes the file of an MCP client (mcpServers of Claude and Cursor, servers
and inputs of VS Code). Variables come from the environment, inputs from
MCPGW_INPUT_<ID>.`,
		Example: "  mcpgw run\n  OPENAI_API_KEY=sk-... mcpgw run\n  mcpgw run --mcp-config ~/.claude.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				g.logLevel = "warn" // the banner says the rest
			}
			opts.Banner = cmd.OutOrStdout()
			return serve(cmd, g, opts)
		},
	}
	serveFlags(cmd, &opts)
	cmd.Flags().StringVar(&opts.MCPConfig, "mcp-config", "", "serve the MCP servers of a client's file")
	cmd.Flags().IntVar(&opts.Port, "port", 0, "port of a Gateway that is not written (default 8080, or a free one when it is busy)")
	return cmd
}

func serveFlags(cmd *cobra.Command, opts *app.ServeOptions) {
	f := cmd.Flags()
	f.StringArrayVarP(&opts.Paths, "filename", "f", nil, "file or directory of resources; can be given several times")
	f.StringVar(&opts.AdminAddr, "admin-addr", app.DefaultAdminAddr, "address of profiles and the configuration in use, or off")
	f.StringVar(&opts.MetricsAddr, "metrics-addr", app.DefaultMetricsAddr, "address of the Prometheus metrics, or off")
	f.StringVar(&opts.ReadyAddr, "ready-addr", app.DefaultReadyAddr, "address of /readyz and /livez, or off")
	f.StringVar(&opts.SessionKeysFile, "session-keys-file", "", "file with the keys that sessions are sealed with, 64 hex digits each, newest first (default: the variable MCPGW_SESSION_KEYS)")
	f.StringVar(&opts.PeerAddr, "peer-addr", "", "host:port where other replicas with the same session keys reach this one (default: the variable MCPGW_PEER_ADDR)")
	f.DurationVar(&opts.DrainDelay, "drain-delay", 0, "how long to accept connections after SIGTERM")
	f.DurationVar(&opts.DrainTimeout, "drain-timeout", 0, "how long requests may take to end after SIGTERM (default 25s)")
}

// serve fills in what all serving commands share.
func serve(cmd *cobra.Command, g *globals, opts app.ServeOptions) error {
	logger, err := g.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	opts.Logger = logger
	opts.LogFormat = g.logFormat
	opts.AccessLog = cmd.ErrOrStderr()
	opts.SessionKeys = os.Getenv("MCPGW_SESSION_KEYS")
	if opts.PeerAddr == "" {
		opts.PeerAddr = os.Getenv("MCPGW_PEER_ADDR")
	}
	if g.logFormat != "json" {
		opts.Report, opts.Color = cmd.ErrOrStderr(), color()
	}
	reopen := make(chan os.Signal, 1)
	signal.Notify(reopen, syscall.SIGHUP)
	defer signal.Stop(reopen)
	opts.Reopen = reopen
	return app.Serve(cmd.Context(), opts)
}
