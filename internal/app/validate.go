package app

import (
	"fmt"
	"io"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/gateway"
)

// ValidateOptions configure [Validate].
type ValidateOptions struct {
	// Paths are files and directories of resources.
	Paths []string
	// Strict makes warnings and unresolved references failures too.
	Strict bool
	// Format is how the report is written: for people, or as data.
	Format Format
	Color  bool
	// Max is how many problems people are shown; 0 is 20.
	Max int
}

// check compiles resources without serving them, and says what is wrong with them.
func check(res *config.Resources) *config.Report {
	_, report := gateway.Compile(res, nil)
	return report
}

// Validate loads and compiles resources without serving them, and writes the
// report: as data to stdout, for people to stderr. The error has ExitInvalidConfig
// when the configuration would be refused.
func Validate(stdout, stderr io.Writer, opts ValidateOptions) error {
	res, report := config.Load(opts.Paths)
	if report.Has(config.Invalid) {
		res.CheckRest(report, check)
	} else {
		report.Merge(check(res))
	}
	report.Sort()
	sources := res.Positions.Sources()
	if opts.Format != Table {
		if err := Print(stdout, opts.Format, report, nil); err != nil {
			return err
		}
	} else if err := config.Render(stderr, report, sources, config.Options{Color: opts.Color, Max: opts.Max}); err != nil {
		return err
	}
	if report.Has(config.Invalid) || opts.Strict && len(report.Problems) > 0 {
		return exit(ExitInvalidConfig, fmt.Errorf("not valid: %s", report.Summary()))
	}
	if opts.Format == Table {
		_, err := fmt.Fprintf(stdout, "valid (%s)\n", report.Summary())
		return err
	}
	return nil
}
