package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// maxKeys bounds how many session keys there may be: one in use, one on its way
// out, and room for a slow rotation.
const maxKeys = 16

// sessionKeys returns the keys that sessions are sealed with, newest first: from
// the file, or from env where no file is named. Without either it returns none,
// and sessions belong to this process alone. An error never holds a part of a key.
func sessionKeys(file, env string) ([][]byte, error) {
	text, from := env, "MCPGW_SESSION_KEYS"
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading session keys: %w", err)
		}
		text, from = string(data), file
	}
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	var keys [][]byte
	for i, field := range fields {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		key, err := hex.DecodeString(field)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("session key %d of %s is not 64 hex digits: make one with `openssl rand -hex 32`", i+1, from)
		}
		keys = append(keys, key)
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%s has %d session keys, more than %d: remove the old ones", from, len(keys), maxKeys)
	}
	if file != "" && len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no session key: write one with `openssl rand -hex 32`", file)
	}
	return keys, nil
}

// pollKeys is how often the file of session keys is looked at. It is followed
// whichever way it changes: written in place, renamed, or by a link that is
// replaced, as those to the Secrets that Kubernetes mounts are.
const pollKeys = time.Second

// watchKeys has set called with the keys of the file whenever they are others than
// current, until ctx ends. What can't be read changes nothing.
func watchKeys(ctx context.Context, file string, current [][]byte, set func([][]byte) error, logger *slog.Logger) {
	poll := time.NewTicker(pollKeys)
	defer poll.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		keys, err := sessionKeys(file, "")
		if err == nil && slices.EqualFunc(keys, current, slices.Equal) {
			said = ""
			continue
		}
		if err == nil {
			err = set(keys)
		}
		switch {
		case err == nil:
			current, said = keys, ""
			logger.Info("the session keys have changed", slog.Int("keys", len(keys)))
		case err.Error() != said: // once
			said = err.Error()
			logger.Error("the file of session keys is not used, what it held before stays", slog.Any("error", err))
		}
	}
}
