package config

import "context"

// A FileSource is a Source of resources in files.
type FileSource struct {
	// Paths are files and directories.
	Paths []string
	// OnReport is told the complete report after each change, with the files that it
	// is about, and whether it was applied. May be nil.
	OnReport func(report *Report, sources *Sources, applied bool)
}

// Run implements Source.
func (s *FileSource) Run(ctx context.Context, apply func(*Resources) *Report) error {
	panic("unwritten")
}
