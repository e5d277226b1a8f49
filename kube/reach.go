package kube

import (
	"context"
	"log/slog"
	"time"
)

// How often the API server is asked whether it is there, and how long it may take to say so.
const (
	askEvery  = 5 * time.Second
	askWithin = 5 * time.Second
)

// watchReach says when the API server goes away and when it is back, until ctx ends: watches that
// break are taken up again without a word.
func (w *watches) watchReach(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := w.ask(ctx)
		switch gone := err != nil; {
		case ctx.Err() != nil:
			return
		case gone && !w.gone.Swap(true):
			w.logger.Error("the API server can't be reached, what is known stays in use", slog.Any("error", err))
		case !gone && w.gone.Swap(false):
			w.logger.Info("the API server can be reached again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask asks the API server whether it is ready, which everybody may.
func (w *watches) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return w.clients.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// chatter writes what the libraries say for those who look for a mistake in them: what operators should
// know is said here. Of what they say at greater verbosities than that nothing is written: there are bodies of
// requests in it, and Secrets and tokens in those.
type chatter struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (c chatter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug && c.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements [slog.Handler].
func (c chatter) Handle(ctx context.Context, r slog.Record) error {
	if !c.Enabled(ctx, r.Level) {
		return nil // not everybody asks first
	}
	r.Level = slog.LevelDebug
	return c.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (c chatter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return chatter{c.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (c chatter) WithGroup(name string) slog.Handler { return chatter{c.Handler.WithGroup(name)} }
