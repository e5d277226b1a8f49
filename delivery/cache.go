package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mcpgw/mcpgw/config"
)

// A cached is the file of a set.
type cached struct {
	Format  int               `json:"format"`
	Objects map[string]Object `json:"objects"`
}

// cacheFormat is raised when older versions could misread a file.
const cacheFormat = 1

// write keeps a set in a file that only its owner may read. Whenever the process ends, the file is whole.
func (s Set) write(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".mcpgw-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is not there any more when all went well
	err = errors.Join(json.NewEncoder(f).Encode(cached{Format: cacheFormat, Objects: s}), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// readSet reads what write wrote.
func readSet(path string) (Set, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > 2*maxMessage { // bytes are written in base64
		return nil, fmt.Errorf("%s is larger than %d bytes", path, 2*maxMessage)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c cached
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.Format != cacheFormat {
		return nil, fmt.Errorf("it has format %d, not %d", c.Format, cacheFormat)
	}
	return c.Objects, nil
}

// fromCache applies what was kept. What can't be used is as if it were not there.
func (s *Source) fromCache(apply func(*config.Resources) *config.Report) {
	set, err := readSet(s.opts.CacheFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = s.use(set, apply)
	}
	if err != nil {
		s.opts.Logger.Error("what was kept is not used", slog.String("file", s.opts.CacheFile), slog.Any("error", err))
		return
	}
	s.opts.Logger.Info("serving what was kept until the controller is there", slog.String("file", s.opts.CacheFile))
}
