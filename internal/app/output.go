package app

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"
)

// A Format is how a command prints its data.
type Format string

// The formats of the flag -o.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// ParseFormat returns the format of that name, or a usage error.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Table, JSON, YAML:
		return f, nil
	default:
		return "", exit(ExitUsage, fmt.Errorf("unknown output format %q: use table, json or yaml", name))
	}
}

// Print writes v as JSON or YAML, or calls table to write it for people.
func Print(w io.Writer, f Format, v any, table func(io.Writer) error) error {
	if f == Table {
		return table(w)
	}
	data, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	if f == YAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		_, err = w.Write(data)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// columns writes rows under headings, aligned.
func columns(w io.Writer, headings []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{headings}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		if _, err := fmt.Fprintln(tw, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// oneLine returns the first line of text without control characters, cut to what
// a terminal's line holds: what servers write about themselves must not move the
// cursor or colour the screen.
func oneLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = printable(text)
	const most = 100
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// printable returns text without characters that a terminal would act on, but
// for line breaks and tabs.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}
