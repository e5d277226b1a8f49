package config

import "io"

// Options say how to render a report.
type Options struct {
	Color bool // ANSI colours
	Max   int  // the most problems to show; 0 means 20
}

// Render writes a report for people.
func Render(w io.Writer, r *Report, s *Sources, o Options) error { panic("unwritten") }

// Sources hold the files that resources were read from.
type Sources struct{}
