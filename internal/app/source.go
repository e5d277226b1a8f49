package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/mcpjson"
)

// reporter is told what became of a configuration, and whether it is served.
type reporter func(report *config.Report, sources *config.Sources, applied bool)

// deliver applies loaded resources unless they hold a mistake.
func deliver(res *config.Resources, report *config.Report, apply func(*config.Resources) *config.Report, tell reporter) {
	applied := false
	if res != nil && !report.Has(config.Invalid) {
		report.Merge(apply(res))
		applied = !report.Has(config.Invalid)
	}
	report.Sort()
	var sources *config.Sources
	if res != nil {
		sources = res.Positions.Sources()
	}
	tell(report, sources, applied)
}

// A memorySource delivers resources that never change.
type memorySource struct {
	files []config.File
	tell  reporter
}

// Run implements [config.Source].
func (s *memorySource) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	res, report := config.LoadFiles(s.files)
	deliver(res, report, apply, s.tell)
	<-ctx.Done()
	return nil
}

// pollImport is how often an imported file is looked at. A change is read when two
// looks saw the same: editors write in several steps. The folder is not watched,
// since it is often a home, where something is always going on.
const pollImport = 200 * time.Millisecond

// An importSource delivers the servers of an MCP client's file, and delivers them
// again when the file changes. A change that can't be read leaves what was
// delivered before.
type importSource struct {
	path   string
	logger *slog.Logger
	tell   reporter
}

// Run implements [config.Source]. It fails when the file can't be imported at
// start.
func (s *importSource) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	last := s.look()
	current, err := s.load()
	if err == nil {
		err = s.deliver(current, apply)
	}
	if err != nil {
		return exit(ExitInvalidConfig, err)
	}
	poll := time.NewTicker(pollImport)
	defer poll.Stop()
	changed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
		if now := s.look(); now != last {
			last, changed = now, true
			continue
		}
		if !changed {
			continue
		}
		changed = false
		data, err := s.load()
		if err == nil && bytes.Equal(data, current) {
			continue
		}
		if err == nil {
			current = data
			err = s.deliver(data, apply)
		}
		if err != nil {
			s.logger.Error("the imported file is not used, what it held before stays", slog.Any("error", err))
		}
	}
}

// A glance is what tells one state of a file from another without reading it.
type glance struct {
	modified time.Time
	size     int64
	missing  bool
}

func (s *importSource) look() glance {
	info, err := os.Stat(s.path)
	if err != nil {
		return glance{missing: true}
	}
	return glance{modified: info.ModTime(), size: info.Size()}
}

// maxImport bounds the file of an MCP client.
const maxImport = 16 << 20

func (s *importSource) load() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxImport+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.path, err)
	}
	return data, nil
}

func (s *importSource) deliver(data []byte, apply func(*config.Resources) *config.Report) error {
	result, err := mcpjson.Import(data, os.LookupEnv)
	if err != nil {
		return fmt.Errorf("importing %s: %w", s.path, err)
	}
	for _, why := range result.Skipped {
		s.logger.Warn("a server is not imported", slog.String("server", why))
	}
	res, report := config.LoadFiles([]config.File{{Name: s.path + " (imported)", Text: result.YAML}})
	deliver(res, report, apply, s.tell)
	return nil
}
