package app

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mcpgw/mcpgw/config"
)

// A besideSource delivers the resources of files beside those of a controller, as one set. The rules are those of a cluster: no
// stdio targets, and no Gateway is assumed. Files with a mistake are refused as a whole, and what they held before stays; the controller's resources are served either way.
type besideSource struct {
	controller config.Source
	paths      []string
	logger     *slog.Logger

	mu       sync.Mutex
	followed *config.Resources // nil before the controller has delivered
	files    *config.Resources // nil before they were read
}

// Run implements [config.Source].
func (s *besideSource) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return s.controller.Run(ctx, func(res *config.Resources) *config.Report {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.followed = res
			return apply(res.Beside(s.files))
		})
	})
	files := &config.FileSource{Paths: s.paths, OnReport: s.tell}
	group.Go(func() error {
		return files.Run(ctx, func(res *config.Resources) *config.Report {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.take(res, apply)
		})
	})
	return group.Wait()
}

// take takes what the files hold, and returns the problems of that.
func (s *besideSource) take(res *config.Resources, apply func(*config.Resources) *config.Report) *config.Report {
	if s.followed == nil {
		s.files = res
		return nil
	}
	before := s.files
	s.files = res
	report := aboutFiles(apply(s.followed.Beside(res)))
	if report.Has(config.Invalid) {
		s.files = before
		apply(s.followed.Beside(before))
	}
	return report
}

// aboutFiles returns the problems that have a place in a file.
func aboutFiles(report *config.Report) *config.Report {
	out := &config.Report{}
	for _, p := range report.Problems {
		if !p.Position.IsZero() {
			out.Add(p)
		}
	}
	return out
}

// tell logs what became of the files.
func (s *besideSource) tell(report *config.Report, _ *config.Sources, applied bool) {
	logProblems(s.logger, report)
	if !applied {
		s.logger.Error("the files are refused, what they held before stays", slog.String("problems", report.Summary()))
		return
	}
	s.logger.Info("the files are served beside what the controller delivers", slog.String("problems", report.Summary()))
}
