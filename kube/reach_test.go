package kube

import (
	"bytes"
	"log/slog"
	"testing"
)

// TestChatter: what libraries say is there for those who debug, and bodies of requests are for nobody.
func TestChatter(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 2} {
		var out bytes.Buffer
		logger := slog.New(chatter{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})})
		logger.Info("a library says something")
		logger.Debug("a library says more")
		logger.Log(t.Context(), slog.Level(-8), "Response Body")
		if got := bytes.Count(out.Bytes(), []byte("level=DEBUG")); got != want || bytes.Contains(out.Bytes(), []byte("Body")) {
			t.Errorf("at level %v there is:\n%s", level, &out)
		}
	}
}
