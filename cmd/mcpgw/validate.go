package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

func newValidate(g *globals) *cobra.Command {
	var opts app.ValidateOptions
	cmd := &cobra.Command{
		Use:     "validate -f PATH...",
		Short:   "Check files without serving them",
		Long:    "Check YAML files and directories as serve would, and report every mistake with its place.",
		Example: "  mcpgw validate -f gateway.yaml\n  mcpgw validate -f config/ -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opts.Format, err = g.format(); err != nil {
				return err
			}
			if len(opts.Paths) == 0 {
				return app.Usage(cmd.CommandPath(), errors.New("name a file or directory with -f"))
			}
			opts.Color = color()
			return app.Validate(cmd.OutOrStdout(), cmd.ErrOrStderr(), opts)
		},
	}
	cmd.Flags().StringArrayVarP(&opts.Paths, "filename", "f", nil, "file or directory of resources; can be given several times")
	cmd.Flags().BoolVar(&opts.Strict, "strict", false, "fail on warnings and unresolved references, too")
	cmd.Flags().IntVar(&opts.Max, "max", 20, "the most problems to show")
	return cmd
}
