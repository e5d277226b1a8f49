package session

import (
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Sessions that share a child each hear what they asked for: the child is told of the
// level that lets most through.
func TestLogLevelsOnOneChild(t *testing.T) {
	tg := stdio(t, "script")
	modern := client("a")
	modern.Version = protocol.LatestModern
	quiet, loud, unset, new := open(t, tg, client("a")), open(t, tg, client("a")), open(t, tg, client("a")), open(t, tg, modern)
	set := func(l *Leg, level string) {
		t.Helper()
		m, err := l.Call(t.Context(), &Call{Method: "logging/setLevel", Params: []byte(`{"level":"` + level + `"}`)})
		if err != nil || m.Error != nil {
			t.Fatal(m, err)
		}
	}
	heard := func(l *Leg, meta string) string {
		t.Helper()
		var got []string
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: []byte(`{"name":"log","_meta":{` + meta + `}}`), Emit: func(m *protocol.Message) error {
			level, _ := protocol.GetString(m.Params, "level")
			got = append(got, level)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return text(t, m) + ": " + strings.Join(got, " ")
	}
	asking := func(level string) string { return `"io.modelcontextprotocol/logLevel":"` + level + `"` }
	for _, step := range []struct{ what, got, want string }{
		{"the child's own", heard(unset, ""), "notice: notice warning error critical alert emergency"},
		{"a modern client did not ask", heard(new, ""), "notice: "},
		{"a modern client asked", heard(new, asking("alert")), "info: alert emergency"},
		{"nobody set one for all", heard(unset, ""), "info: info notice warning error critical alert emergency"},
	} {
		if step.got != step.want {
			t.Errorf("%s: %s, want %s", step.what, step.got, step.want)
		}
	}
	set(quiet, "critical")
	set(loud, "debug")
	set(quiet, "error")
	all := strings.Join(levels, " ")
	for _, step := range []struct{ what, got, want string }{
		{"quiet", heard(quiet, ""), "debug: error critical alert emergency"},
		{"loud", heard(loud, ""), "debug: " + all},
		{"unset", heard(unset, ""), "debug: " + strings.TrimPrefix(all, "debug ")},
		{"modern, without", heard(new, ""), "debug: "},
		{"modern, with", heard(new, asking("emergency")), "debug: emergency"},
		{"modern, with more", heard(new, asking("debug")), "debug: " + all},
	} {
		if step.got != step.want {
			t.Errorf("%s: %s, want %s", step.what, step.got, step.want)
		}
	}
}
