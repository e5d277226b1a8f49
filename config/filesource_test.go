package config

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen soon; it fails only when
// it does not happen at all.
const patience = 20 * time.Second

// A told is what OnReport was told.
type told struct {
	report  *Report
	sources *Sources
	applied bool
}

// A sink is where a source delivers to.
type sink struct {
	t       *testing.T
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	applied []*Resources
	told    []told
	refuse  func(*Resources) *Report
	check   func(*Resources) *Report
}

// run runs a source of paths until the test ends.
func run(t *testing.T, paths ...string) *sink {
	t.Helper()
	s := &sink{t: t, changed: make(chan struct{})}
	start(t, s, paths...)
	return s
}

func start(t *testing.T, s *sink, paths ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	source := &FileSource{Paths: paths, Check: s.check, OnReport: func(r *Report, src *Sources, applied bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told = append(s.told, told{r, src, applied})
		s.signal()
	}}
	go func() { done <- source.Run(ctx, s.apply) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// signal wakes those that wait. The lock is held.
func (s *sink) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sink) apply(res *Resources) *Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if r := s.refuse(res); r != nil {
			return r
		}
	}
	s.applied = append(s.applied, res)
	s.signal()
	return &Report{}
}

// until waits for a condition. It is called with the lock held.
func (s *sink) until(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		met, changed := ok(), s.changed
		s.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// live waits until the ConfigMaps of what is applied are names.
func (s *sink) live(names ...string) {
	s.t.Helper()
	s.until(fmt.Sprint("live are ", names), func() bool {
		return len(s.applied) > 0 && slices.Equal(namesOf(s.applied[len(s.applied)-1]), names)
	})
}

// refused waits until the last that was told is a refusal with code.
func (s *sink) refused(code string) {
	s.t.Helper()
	s.until("refused with "+code, func() bool {
		return len(s.told) > 0 && !s.last().applied && slices.Contains(codesOf(s.last().report), code)
	})
}

func (s *sink) last() told { return s.told[len(s.told)-1] }

// count returns how often something was applied.
func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.applied)
}

func replace(t *testing.T, path, text string) { // as editors do
	t.Helper()
	write(t, path+".tmp~", text)
	if err := os.Rename(path+".tmp~", path); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestFileSourceWatchesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, configMap("a"))
	s := run(t, path)
	s.live("a")

	write(t, path, configMap("b"))
	s.live("b")

	replace(t, path, configMap("c"))
	s.live("c")

	replace(t, path, configMap("d")) // the file that is watched now is another
	s.live("d")

	write(t, path, "kind: [")
	s.refused(CodeSyntax)
	s.live("d")

	write(t, path, "")
	s.refused(CodeNoObjects)

	remove(t, path)
	s.refused(CodeUnreadable)
	s.live("d")

	write(t, path, configMap("e"))
	s.live("e")

	s.until("the last report is good", func() bool { return s.last().applied && len(s.last().report.Problems) == 0 })
}

func TestFileSourceWatchesADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	write(t, filepath.Join(dir, "a.yaml"), configMap("a"))
	s := run(t, dir)
	s.live("a")

	write(t, filepath.Join(dir, "b.yaml"), configMap("b"))
	s.live("a", "b")

	remove(t, filepath.Join(dir, "a.yaml"))
	s.live("b")

	write(t, filepath.Join(dir, "sub", "c.yaml"), configMap("c"))
	s.live("b", "c")

	write(t, filepath.Join(dir, "sub", "c.yaml"), configMap("d")) // the new directory is watched, too
	s.live("b", "d")

	remove(t, dir)
	s.refused(CodeUnreadable)
	s.live("b", "d")

	write(t, filepath.Join(dir, "e.yaml"), configMap("e"))
	s.live("e")

	write(t, filepath.Join(dir, "e.yaml"), configMap("f"))
	s.live("f")
}

func TestFileSourceAwaitsWhatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "yet", "gateway.yaml")
	s := run(t, path)
	s.refused(CodeUnreadable)
	write(t, path, configMap("a"))
	s.live("a")
}

// Kubernetes writes a volume into a new directory, and switches a link to it.
func TestFileSourceFollowsVolumes(t *testing.T) {
	for name, of := range map[string]func(dir string) string{
		"a directory": func(dir string) string { return dir },
		"a file":      func(dir string) string { return filepath.Join(dir, "gateway.yaml") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			generation := func(n int, name string) {
				version := fmt.Sprintf("..version_%d", n)
				write(t, filepath.Join(dir, version, "gateway.yaml"), configMap(name))
				symlink(t, version, filepath.Join(dir, "..data_tmp"))
				if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
					t.Fatal(err)
				}
				if n > 1 {
					remove(t, filepath.Join(dir, fmt.Sprintf("..version_%d", n-1)))
				}
			}
			generation(1, "a")
			symlink(t, filepath.Join("..data", "gateway.yaml"), filepath.Join(dir, "gateway.yaml"))
			s := run(t, of(dir))
			s.live("a")
			for n, name := range []string{"b", "c", "d"} {
				generation(n+2, name)
				s.live(name)
			}
		})
	}
}

func TestFileSourceFollowsLinks(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "v1", "conf", "a.yaml"), configMap("a"))
	write(t, filepath.Join(base, "v2", "conf", "a.yaml"), configMap("b"))
	symlink(t, "v1", filepath.Join(base, "current"))
	s := run(t, filepath.Join(base, "current", "conf"))
	s.live("a")

	write(t, filepath.Join(base, "v1", "conf", "a.yaml"), configMap("c")) // behind the link
	s.live("c")

	symlink(t, "v2", filepath.Join(base, "next"))
	if err := os.Rename(filepath.Join(base, "next"), filepath.Join(base, "current")); err != nil {
		t.Fatal(err)
	}
	s.live("b")

	write(t, filepath.Join(base, "v2", "conf", "a.yaml"), configMap("d"))
	s.live("d")
}

// What is only written otherwise is reported, and not applied again.
func TestFileSourceAppliesChangesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, configMap("a"))
	s := run(t, path)
	s.live("a")

	write(t, path, "# a comment\n"+configMap("a"))
	s.until("two reports", func() bool { return len(s.told) == 2 && s.last().applied })
	if n := s.count(); n != 1 {
		t.Errorf("applied %d times", n)
	}

	write(t, path, "kind: [")
	s.refused(CodeSyntax)
	write(t, path, configMap("a"))
	s.until("a good report", func() bool { return s.last().applied })
	if n := s.count(); n != 1 {
		t.Errorf("applied %d times", n)
	}
	write(t, path, configMap("b"))
	s.live("b")
}

// What apply finds belongs to the report, and an Invalid problem of it refuses the
// set: it is offered again when it changes, even back to what it was before.
func TestFileSourceReportsWhatApplyFinds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, configMap("a"))
	s := &sink{t: t, changed: make(chan struct{})}
	s.refuse = func(res *Resources) *Report {
		r := &Report{}
		name := res.ConfigMaps[0].Name
		class := Unresolved
		if name == "bad" {
			class = Invalid
		}
		r.AddAt(res.Positions, Problem{Class: class, Code: CodeUnused, Object: ObjectRef{"ConfigMap", "default", name}, Path: "metadata.name", Message: "unused"})
		if class == Unresolved {
			s.applied = append(s.applied, res)
			s.signal()
		}
		return r
	}
	start(t, s, path)
	s.live("a")
	line := func() int { return s.last().report.Problems[0].Position.Line }
	s.until("the problem", func() bool { return len(s.told) == 1 && s.last().applied && line() == 3 })

	write(t, path, "#\n#\n"+configMap("a"))
	s.until("the problem at its new place", func() bool { return s.last().applied && line() == 5 })

	write(t, path, configMap("bad"))
	s.refused(CodeUnused)
	if s.count() != 1 {
		t.Error("applied")
	}
	write(t, path, configMap("a"))
	s.until("the old one is good", func() bool { return s.last().applied })
}

// Files that are refused are told all of their mistakes at once, those that apply
// would find too, while nothing is applied.
func TestFileSourceChecksTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, configMap("a")+"data: 1\n---\n"+configMap("b"))
	s := &sink{t: t, changed: make(chan struct{}), check: func(rest *Resources) *Report {
		r := &Report{}
		for _, name := range namesOf(rest) {
			r.AddAt(rest.Positions, Problem{Class: Invalid, Code: CodeExpression, Object: ObjectRef{"ConfigMap", "default", name}, Message: "m"})
		}
		return r
	}}
	start(t, s, path)
	s.refused(CodeType)
	s.until("both mistakes", func() bool { return slices.Equal(codesOf(s.last().report), []string{CodeType, CodeExpression}) })
	if s.count() != 0 {
		t.Error("applied")
	}
}

// Two hundred edits in all ways, one in ten broken, some of them while the file is
// read: what is live is always a whole that was written, and in the end the last.
func TestFileSourceSurvivesAStorm(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	text := func(i int) string { // two objects that belong together
		return configMap(fmt.Sprintf("a%d", i)) + "---\n" + configMap(fmt.Sprintf("b%d", i))
	}
	write(t, path, text(0))
	t.Run("storm", func(t *testing.T) {
		s := run(t, path)
		s.live("a0", "b0")
		random := rand.New(rand.NewPCG(1, 2))
		for i := 1; i <= 200; i++ {
			content := text(i)
			if i%10 == 0 {
				content = content[:len(content)-4] + "\n  kind: [" // cut off
			}
			switch random.IntN(3) {
			case 0:
				write(t, path, content)
			case 1:
				replace(t, path, content)
			case 2: // in two steps
				write(t, path, content[:len(content)-3])
				write(t, path, content)
			}
			if i%25 == 0 {
				n := len(s.snapshot())
				s.until("it is read", func() bool { return len(s.told) > n })
			}
		}
		s.refused(CodeSyntax) // the last is broken
		write(t, path, text(1000))
		s.live("a1000", "b1000")
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, res := range s.applied {
			names := namesOf(res)
			if len(names) != 2 || strings.TrimPrefix(names[0], "a") != strings.TrimPrefix(names[1], "b") {
				t.Errorf("live was %v, which nobody wrote", names)
			}
		}
	})
}

// snapshot returns what was told so far.
func (s *sink) snapshot() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

// What is written beside the files that are read has nothing read again: a log, say, that the gateway itself writes.
func TestFileSourceIgnoresOtherFiles(t *testing.T) {
	dir := t.TempDir()
	file, log, folder := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "access.log"), filepath.Join(dir, "more.d")
	write(t, filepath.Join(dir, "..version_1", "gateway.yaml"), configMap("a"))
	symlink(t, "..version_1", filepath.Join(dir, "..data"))
	symlink(t, filepath.Join("..data", "gateway.yaml"), file)
	write(t, log, "line\n")
	write(t, filepath.Join(folder, "b.yaml"), configMap("b"))
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	w := newWatch(watcher)
	for _, c := range []struct {
		path string
		not  []string // of interest
	}{
		{file, []string{log, folder, filepath.Join(dir, "other.yaml")}},
		{dir, []string{log, filepath.Join(folder, "x.log.1")}},
	} {
		w.follow([]string{c.path})
		write(t, filepath.Join(folder, "x.log.1"), "")
		for _, name := range []string{file, filepath.Join(dir, "..data"), filepath.Join(dir, "..version_1", "gateway.yaml")} {
			if !w.concerns(name) {
				t.Errorf("-f %s: %s is of no interest", c.path, name)
			}
		}
		for _, name := range c.not {
			if w.concerns(name) {
				t.Errorf("-f %s: %s is of interest", c.path, name)
			}
		}
	}
	for _, name := range []string{folder, filepath.Join(dir, "new.yaml"), filepath.Join(dir, "gone")} {
		if !w.concerns(name) {
			t.Errorf("%s is of no interest", name)
		}
	}
}

// Without the system's help the files are looked at from time to time.
func TestFileSourcePolls(t *testing.T) {
	w := newWatch(nil)
	w.follow([]string{t.TempDir()})
	if events, errs := w.channels(); events != nil || errs != nil || w.concerns("a.yaml") {
		t.Error("a watch without a watcher tells of changes")
	}
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, configMap("a"))
	s := &sink{t: t, changed: make(chan struct{})}
	r := &fileRun{source: &FileSource{Paths: []string{path}}, apply: s.apply, watch: w}
	if !r.read(true) || s.count() != 1 {
		t.Error("not read at first")
	}
	if !r.read(false) || s.count() != 1 {
		t.Error("what did not change was applied")
	}
	write(t, path, "[")
	if r.read(false) || !r.read(true) || s.count() != 1 {
		t.Error("a mistake is not awaited")
	}
	write(t, path, configMap("b"))
	if !r.read(false) || s.count() != 2 {
		t.Error("a change was not applied")
	}
}
