package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The limits of all files together.
const (
	maxFiles = 1000
	maxTotal = 64 << 20 // bytes
)

// A File is a file of resources in memory.
type File struct {
	Name string // for positions
	Text []byte // at most 4 MiB are read
}

// isResourceFile reports whether a file of a directory is read, by its name.
func isResourceFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// readFiles reads the files at paths: files as they are named, and of directories
// their own files and those of their subdirectories, in the order of names. Names
// that begin with a dot are left out. dirs are the directories that were read.
func readFiles(paths []string, report *Report) (files []File, dirs []string) {
	r := &reader{report: report, seen: map[string]bool{}}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			r.unreadable(path, err)
		case info.IsDir():
			r.directory(path, 0)
		default:
			r.file(path)
		}
	}
	return r.files, r.dirs
}

// A reader collects files.
type reader struct {
	report *Report
	files  []File
	dirs   []string
	seen   map[string]bool
	total  int
	full   bool
}

// unreadable reports what can't be read.
func (r *reader) unreadable(path string, err error) {
	why := err.Error()
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		why = pathErr.Err.Error()
	}
	r.report.Add(Problem{Class: Invalid, Code: CodeUnreadable, Position: Position{File: path}, Message: "can't be read: " + why})
}

// directory reads the files of a directory that is depth levels below one that was
// named.
func (r *reader) directory(path string, depth int) {
	entries, err := os.ReadDir(path)
	if err != nil {
		r.unreadable(path, err)
		return
	}
	r.dirs = append(r.dirs, path)
	var below []string
	for _, e := range entries { // in the order of names
		name := e.Name()
		full := filepath.Join(path, name)
		if strings.HasPrefix(name, ".") {
			continue
		}
		info, err := os.Stat(full) // what a symbolic link leads to
		switch {
		case errors.Is(err, fs.ErrNotExist): // went away meanwhile, or a link to nothing
			if isResourceFile(name) && e.Type()&fs.ModeSymlink != 0 {
				r.unreadable(full, err)
			}
		case err != nil:
			r.unreadable(full, err)
		case info.IsDir():
			below = append(below, full)
		case isResourceFile(name):
			r.file(full)
		}
	}
	for _, sub := range below {
		if depth == 0 {
			r.directory(sub, 1)
			continue
		}
		if names, _ := os.ReadDir(sub); slices.ContainsFunc(names, func(e fs.DirEntry) bool { return isResourceFile(e.Name()) }) {
			r.report.Add(Problem{
				Class: Warning, Code: CodeTooDeepFolder, Position: Position{File: sub},
				Message: "the files of this directory are not read: it is more than one level down", Help: "name the directory with a further -f",
			})
		}
	}
}

// file reads one file.
func (r *reader) file(path string) {
	if r.full || r.seen[path] {
		return
	}
	r.seen[path] = true
	f, err := os.Open(path)
	if err != nil {
		r.unreadable(path, err)
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		r.unreadable(path, err)
		return
	}
	r.total += len(text)
	switch {
	case len(r.files) >= maxFiles:
		r.full = true
		r.report.Add(Problem{Class: Invalid, Code: CodeTooManyFiles, Position: Position{File: path}, Message: fmt.Sprintf("more than %d files", maxFiles)})
		return
	case r.total > maxTotal:
		r.full = true
		r.report.Add(Problem{Class: Invalid, Code: CodeFileTooLarge, Position: Position{File: path}, Message: "all files together have more than 64 MiB"})
		return
	}
	r.files = append(r.files, File{Name: path, Text: text})
}
