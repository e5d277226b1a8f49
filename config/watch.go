package config

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// The most directories that are watched, and the most links that are followed to
// one file.
const (
	maxWatched = 2000
	maxLinks   = 40
)

// A watch tells of changes to files and directories. It watches directories, since a
// file that is replaced by another is a change of its directory; and the
// directories of all symbolic links on the way.
type watch struct {
	watcher *fsnotify.Watcher // nil: nothing is watched
	dirs    map[string]bool   // where any change is of interest, or only those in names
	names   map[string]bool   // files, directories and links of interest
}

func newWatch(w *fsnotify.Watcher) *watch { return &watch{watcher: w} }

// channels returns where changes and errors come from.
func (w *watch) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.watcher == nil {
		return nil, nil
	}
	return w.watcher.Events, w.watcher.Errors
}

// concerns reports whether a change of what has that name is of interest. In a directory of resources all is but
// files of other kinds, such as a log that is written there.
func (w *watch) concerns(name string) bool {
	if w.names[name] || !w.dirs[filepath.Dir(name)] {
		return w.names[name]
	}
	if isResourceFile(filepath.Base(name)) {
		return true
	}
	info, err := os.Lstat(name)
	return err != nil || !info.Mode().IsRegular() // it may have been a directory
}

// follow brings what is watched up to date with the file system: links and
// subdirectories may have changed.
func (w *watch) follow(paths []string) {
	if w.watcher == nil {
		return
	}
	w.dirs, w.names = map[string]bool{}, map[string]bool{}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			continue
		}
		real, ok := w.trace(abs, 0)
		if !ok {
			continue
		}
		if info, err := os.Stat(real); err == nil && info.IsDir() {
			w.directory(real, 0)
		}
	}
	for _, watched := range w.watcher.WatchList() {
		if _, wanted := w.dirs[watched]; !wanted {
			// One that is gone removes itself: then there is nothing to remove.
			_ = w.watcher.Remove(watched)
		}
	}
	for dir := range w.dirs {
		// A directory that goes meanwhile is told by the one above it, and what
		// can't be watched is looked at from time to time.
		_ = w.watcher.Add(dir)
	}
}

// directory watches a directory of resources, and the ones in it.
func (w *watch) directory(path string, depth int) {
	w.add(path, true)
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, e := range entries {
		full := filepath.Join(path, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		real := full
		if e.Type()&os.ModeSymlink != 0 {
			var ok bool
			if real, ok = w.trace(full, 0); !ok {
				continue
			}
		}
		if info, err := os.Stat(real); err == nil && info.IsDir() && depth == 0 {
			w.directory(real, 1)
		}
	}
}

// add watches a directory; all says that every change in it is of interest.
func (w *watch) add(dir string, all bool) {
	if len(w.dirs) < maxWatched {
		w.dirs[dir] = w.dirs[dir] || all
	}
}

// trace follows the links on the way to path, which is absolute, and watches each of
// them and what is at the end. It returns what path leads to, or false when there
// is nothing: then it watches for what is missing.
func (w *watch) trace(path string, links int) (string, bool) {
	if links > maxLinks {
		return "", false
	}
	volume := filepath.VolumeName(path)
	at := volume + string(filepath.Separator)
	parts := strings.Split(strings.Trim(filepath.Clean(path)[len(volume):], string(filepath.Separator)), string(filepath.Separator))
	for i, part := range parts {
		full := filepath.Join(at, part)
		info, err := os.Lstat(full)
		switch {
		case err != nil:
			w.add(at, false)
			w.names[full] = true
			return "", false
		case info.Mode()&os.ModeSymlink != 0:
			w.add(at, false)
			w.names[full] = true
			target, err := os.Readlink(full)
			if err != nil {
				return "", false
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(at, target)
			}
			rest := filepath.Join(parts[i+1:]...)
			return w.trace(filepath.Join(target, rest), links+1)
		}
		at = full
	}
	w.add(filepath.Dir(at), false)
	w.names[at] = true
	return at, true
}
