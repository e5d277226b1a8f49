package federation

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mcpgw/mcpgw/mcp/session"
)

var clientName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// section draws a target name: a lower case DNS label or subdomain.
func section() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?(\.[a-z0-9]{1,5})?`)
}

// Client-visible names are legal, short enough, the same each time, and no two
// tools of honest targets share one.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		targets := rapid.SliceOfNDistinct(section(), 1, 6, rapid.ID).Draw(t, "targets")
		names := rapid.SliceOfNDistinct(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-zA-Z0-9_./-]{1,130}`)), 1, 20, rapid.ID).Draw(t, "names")
		cfg := Config{PrefixMode: rapid.SampledFrom([]PrefixMode{Always, Conditional}).Draw(t, "mode"), MaxNameLength: rapid.IntRange(0, 80).Draw(t, "length")}
		for _, name := range targets {
			cfg.Targets = append(cfg.Targets, session.TargetConfig{Name: name})
		}
		n, again := newNaming(&cfg), newNaming(&cfg)
		limit := min(max(cfg.MaxNameLength, minNameLength), maxNameLength)
		if cfg.MaxNameLength == 0 {
			limit = defaultNameLength
		}
		seen := map[string][2]string{}
		for _, target := range targets {
			for _, own := range names {
				if own == "" {
					continue
				}
				got := n.scope(target).name(own)
				if !clientName.MatchString(got) || len(got) > limit {
					t.Fatalf("%q of %q became %q", own, target, got)
				}
				if same := again.scope(target).name(own); same != got {
					t.Fatalf("%q became %q and %q", own, got, same)
				}
				if other, ok := seen[got]; ok {
					t.Fatalf("%v and %q of %q both became %q", other, own, target, got)
				}
				seen[got] = [2]string{target, own}
				plain := target + "_" + own
				if n.bare {
					plain = own
				}
				if clientName.MatchString(plain) && len(plain) <= limit && got != plain {
					t.Fatalf("%q needed no change and became %q", plain, got)
				}
			}
		}
	})
}

func TestNameExamples(t *testing.T) {
	cfg := Config{Targets: []session.TargetConfig{{Name: "fs"}, {Name: "a.b"}}}
	n := newNaming(&cfg)
	for _, tt := range []struct{ target, own, want string }{
		{"fs", "read_file", "fs_read_file"},
		{"fs", "read.file", "fs_read_file_a70c2700"},
		{"fs", strings.Repeat("x", 45), "fs_" + strings.Repeat("x", 45)},
		{"fs", strings.Repeat("x", 46), "fs_" + strings.Repeat("x", 36) + "_16a08885"},
		{"a.b", "x", "a_b_x_c6f9c73b"},
	} {
		if got := n.scope(tt.target).name(tt.own); got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.own, tt.target, got, tt.want)
		}
	}
}

// A client-visible URI leads back to its target and to the target's own URI.
func TestURIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		targets := rapid.SliceOfNDistinct(rapid.OneOf(section(), rapid.StringMatching(`(t-){0,2}[0-9][a-z]?`)), 1, 6, rapid.ID).Draw(t, "targets")
		var cfg Config
		for _, name := range targets {
			cfg.Targets = append(cfg.Targets, session.TargetConfig{Name: name})
		}
		n := newNaming(&cfg)
		target := rapid.SampledFrom(targets).Draw(t, "target")
		own := rapid.OneOf(rapid.StringMatching(`(file|ui|test\+x|UI)://[a-z+/{}*]{0,20}`), rapid.StringN(1, 20, -1)).Draw(t, "uri")
		client := n.scope(target).uri(own)
		gotTarget, gotOwn, ok := n.targetOf(client)
		if !ok || gotTarget != target || gotOwn != own {
			t.Fatalf("%q of %q became %q, which is %q of %q (%v)", own, target, client, gotOwn, gotTarget, ok)
		}
		if c := client[0]; !strings.HasPrefix(client, "ui://") && (c < 'a' || c > 'z') {
			t.Fatalf("%q does not begin like a URI", client)
		}
	})
}

func FuzzCursor(f *testing.F) {
	sealer, err := session.NewSealer()
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	good := cursor{kind: tools, made: now.Unix(), ordinal: 1, index: 2, target: "fs", item: itemHash("x")}
	f.Add(good.seal(sealer, []byte("a")))
	f.Add("")
	f.Add("eyJ0IjoxfQ")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := openCursor(sealer, s, tools, []byte("b"), now); ok {
			t.Fatalf("opened %+v for a caller it was not made for", c)
		}
		if c, ok := openCursor(sealer, s, prompts, []byte("a"), now); ok {
			t.Fatalf("opened %+v for another list", c)
		}
		if c, ok := openCursor(sealer, s, tools, []byte("a"), now.Add(2*cursorLifetime)); ok {
			t.Fatalf("opened %+v after its time", c)
		}
		if c, ok := openCursor(sealer, s, tools, []byte("a"), now); ok && c != good {
			t.Fatalf("opened %+v, which nobody made", c)
		}
	})
}

func TestCursorRoundTrip(t *testing.T) {
	sealer, err := session.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	want := cursor{kind: resources, made: now.Unix(), ordinal: 7, index: 4999, target: "fs", item: itemHash("x")}
	got, ok := openCursor(sealer, want.seal(sealer, []byte("a")), resources, []byte("a"), now)
	if !ok || got != want {
		t.Errorf("%+v %v", got, ok)
	}
}
