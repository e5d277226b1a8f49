package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How a [FileSource] waits.
const (
	settle     = 100 * time.Millisecond // of quiet before files are read after a change
	settleMost = 400 * time.Millisecond // and at most, while they keep changing
	grace      = 200 * time.Millisecond // more before a mistake is reported: the file may be half-written
	pollEvery  = 30 * time.Second       // to look at the files anyway
	pollAlone  = time.Second            // the same, when the system can't tell of changes
)

// A FileSource delivers the resources in files and directories, as [Load] reads
// them, and delivers them again when they change: whether a file is written in
// place, replaced by another as editors do, or reached through symbolic links that
// are switched, as Kubernetes does with volumes.
//
// A set of files with an Invalid problem is not delivered, nor is one without any
// object: what was delivered before stays. A set whose objects are those
// delivered last is not delivered again.
type FileSource struct {
	// Paths are files and directories. They need not exist yet.
	Paths []string

	// Check finds what is wrong with resources, as gateway.Compile does. It is asked for
	// the mistakes in the objects without any when there are some in others, so that
	// the report of files that are refused has them all. May be nil.
	Check func(*Resources) *Report

	// OnReport is told after each change what became of the files: the sorted report,
	// the files that it is about, and whether the resources were applied. They were
	// when neither loading nor apply reported an Invalid problem. It is called from
	// one goroutine at a time, and may be nil.
	OnReport func(report *Report, sources *Sources, applied bool)
}

// Run implements [Source]. It returns nil when ctx ends, and no other error: files
// that can't be read at start are reported like others, and are awaited.
func (s *FileSource) Run(ctx context.Context, apply func(*Resources) *Report) error {
	r := &fileRun{source: s, apply: apply}
	poll := pollEvery
	watcher, err := fsnotify.NewWatcher()
	if err != nil { // the system's limit is reached
		r.watch, poll = newWatch(nil), pollAlone
	} else {
		defer watcher.Close()
		r.watch = newWatch(watcher)
	}
	r.watch.follow(s.Paths)
	r.read(true)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	var since time.Time // of the first change that is not read yet
	patient := false    // a mistake was seen, and may be a file that is half-written
	for {
		events, errs := r.watch.channels()
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if !r.watch.concerns(e.Name) {
				continue
			}
			now := time.Now()
			if since.IsZero() {
				since = now
			}
			patient = false
			quiet.Reset(max(0, min(settle, settleMost-now.Sub(since))))
		case <-errs: // events were lost
			quiet.Reset(settle)
		case <-quiet.C:
			since = time.Time{}
			r.watch.follow(s.Paths)
			if !r.read(patient) {
				patient = true
				quiet.Reset(grace)
			}
		case <-ticker.C:
			r.watch.follow(s.Paths)
			if !r.read(false) {
				patient = true
				quiet.Reset(grace)
			}
		}
	}
}

// A fileRun is what one Run of a FileSource knows.
type fileRun struct {
	source *FileSource
	apply  func(*Resources) *Report
	watch  *watch

	seen     [sha256.Size]byte // the files that were read last and reported
	applied  string            // the fingerprint of what was applied last
	compiled []Problem         // what apply said of it
}

// read reads the files, and delivers and reports what changed. It reports false, and
// does nothing, when there is a mistake in them and sure is not set.
func (r *fileRun) read(sure bool) bool {
	report := &Report{}
	files, _ := readFiles(r.source.Paths, report)
	sum := sumOf(files, report)
	if sum == r.seen {
		return true
	}
	res, report := loadFiles(files, listed(r.source.Paths), report)
	if report.Has(Invalid) {
		if sure {
			if r.source.Check != nil {
				res.CheckRest(report, r.source.Check)
			}
			r.seen = sum
			r.tell(report, res, false)
		}
		return sure
	}
	r.seen = sum
	switch {
	case r.applied != "" && res.Fingerprint == r.applied: // comments, or back to what it was
		for _, p := range r.compiled {
			p.Position = Position{} // lines may have moved
			report.AddAt(res.Positions, p)
		}
	default:
		compiled := r.apply(res)
		if compiled == nil {
			compiled = &Report{}
		}
		report.Merge(compiled)
		if report.Has(Invalid) {
			r.tell(report, res, false)
			return true
		}
		r.applied, r.compiled = res.Fingerprint, slices.Clone(compiled.Problems)
	}
	r.tell(report, res, true)
	return true
}

// tell calls OnReport.
func (r *fileRun) tell(report *Report, res *Resources, applied bool) {
	report.Sort()
	if r.source.OnReport != nil {
		r.source.OnReport(report, res.Positions.Sources(), applied)
	}
}

// sumOf returns a hash of files and of what could not be read.
func sumOf(files []File, report *Report) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d\n", f.Name, len(f.Text))
		h.Write(f.Text)
	}
	for _, p := range report.Problems {
		fmt.Fprintf(h, "%s %q %q\n", p.Code, p.Position.File, p.Message)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
