package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := g.format()
			if err != nil {
				return err
			}
			about := app.AboutThis(version)
			return app.Print(cmd.OutOrStdout(), format, about, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "mcpgw %s (%s, %s)\n", about.Version, about.Go, about.Platform)
				return err
			})
		},
	}
}

func newSchema(*globals) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the resources, for editors",
		Long: `Print the JSON schema of all kinds. Editors with the YAML language server use it in
files that have the line

  # yaml-language-server: $schema=mcpgw.schema.json`,
		Example: "  mcpgw schema > mcpgw.schema.json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return app.PrintSchema(cmd.OutOrStdout()) },
	}
}

func newExplain(*globals) *cobra.Command {
	return &cobra.Command{
		Use:     "explain KIND[.FIELD...] | CODE",
		Short:   "Explain a kind, a field, or the code of a problem",
		Example: "  mcpgw explain Backend.spec.mcp.targets\n  mcpgw explain MG0107",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Explain(cmd.OutOrStdout(), args[0])
		},
	}
}
