package federation

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpgw/mcpgw/policy"
)

// A client is told of what changes for it, and not of what it may not see, as long as the
// rules are those that are known of it.
func TestToldOfWhatIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newVirtual("s", 60_000, "open", "secret")
		l := newLab(t, Config{}, s)
		defer l.stop()
		rules := policy.NewRules([]policy.RuleSet{rule(t, policy.Deny, `mcp.tool.name.startsWith('secret')`)})
		comparing := policy.NewRules([]policy.RuleSet{rule(t, policy.Deny, `mcp.tool.name == request.headers['x-none']`)})
		l.tools()
		all, leaveAll := l.listen()
		defer leaveAll()
		synctest.Wait()
		l.rules = rules
		some, leaveSome := l.listen()
		defer leaveSome()
		synctest.Wait()
		l.rules = comparing
		each, leaveEach := l.listen()
		defer leaveEach()
		synctest.Wait()

		change := func(tools ...string) {
			s.set(func(s *virtual) { s.tools = tools })
			s.announce()
			time.Sleep(time.Second)
		}
		check := func(what string, a, b, c int) {
			t.Helper()
			if all() != a || some() != b || each() != c {
				t.Errorf("%s: told %d, %d and %d times, want %d, %d and %d", what, all(), some(), each(), a, b, c)
			}
		}
		change("open", "secret", "secret2")
		check("a tool that is denied", 1, 0, 1)
		change("open", "more")
		check("a tool that is not", 2, 1, 2)
		change("open", "more", "secret")
		check("one that is denied again", 3, 1, 3)
		change("open", "more", "secret") // as it was
		check("what came and went, which may have been denied", 4, 1, 3)

		cfg := l.backend.cfg
		cfg.PolicyFingerprint = "other"
		l.backend = l.hub.Backend(cfg)
		l.hub.Commit([]*Backend{l.backend})
		time.Sleep(time.Second)
		check("other rules", 5, 2, 4)
		change("open", "more", "secret3")
		check("under rules that are not known", 6, 3, 5)
	})
}
