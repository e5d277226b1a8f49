package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

// globals are the flags of every command.
type globals struct {
	output    string
	logFormat string
	logLevel  string
}

func newRoot() *cobra.Command {
	g := new(globals)
	root := &cobra.Command{
		Use:   "mcpgw",
		Short: "One gateway for many MCP servers, with policies per tool",
		Long: `mcpgw serves the tools, prompts and resources of many MCP servers at one URL,
under rules that say who may use which tool, from Kubernetes resources in plain YAML files.

Exit codes: 0 all went well, 1 failure, 2 wrong usage, 3 invalid configuration,
4 denied or no such tool, 5 nothing answers.`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableAutoGenTag:          true,
		SuggestionsMinimumDistance: 2,
	}
	root.PersistentFlags().StringVarP(&g.output, "output", "o", "table", "how to print data: table, json or yaml")
	root.PersistentFlags().StringVar(&g.logFormat, "log-format", "text", "how to write the log: text or json")
	root.PersistentFlags().StringVar(&g.logLevel, "log-level", "info", "what to log: debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return app.Usage(cmd.CommandPath(), err)
	})
	root.AddCommand(
		newRun(g), newServe(g), newController(g), newValidate(g), newTools(g), newExplain(g), newSchema(g), newCRDs(), newRender(), newReady(), newVersion(g),
	)
	usageErrors(root)
	return root
}

// usageErrors gives the errors of wrong arguments their exit code.
func usageErrors(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.NoArgs
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		// Of these cobra would show the help, whatever was asked for.
		check = knownCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return app.Usage(cmd.CommandPath(), err)
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// knownCommand refuses what is not a subcommand of cmd.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w. Did you mean %s?", err, strings.Join(near, " or "))
	}
	return err
}

// format returns the value of -o.
func (g *globals) format() (app.Format, error) { return app.ParseFormat(g.output) }

// logger returns the logger for a command that serves.
func (g *globals) logger(w io.Writer) (*slog.Logger, error) {
	return app.NewLogger(w, g.logFormat, g.logLevel)
}

// color reports whether stderr is a terminal that wants colours.
func color() bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
