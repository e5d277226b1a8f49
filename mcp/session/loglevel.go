package session

import (
	"slices"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// levels are the log levels, least severe first (2025-11-25, Logging, Log Levels).
var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// severity orders log levels; −1 is no level.
func severity(level string) int { return slices.Index(levels, level) }

// unsetLevel is what a leg that set no level gets of a target that it shares with
// legs that did: each would otherwise hear what another asked for.
const unsetLevel = "info"

// toTell returns the log level that a target has to be told of for a leg to hear what
// it wants, "" for none. One that several legs share is told of what lets through
// enough for all of them; those that said nothing count with unsetLevel.
func toTell(w wire, level string) string {
	d, ok := w.(*duplexWire)
	if !ok || !d.shared || d.era() == protocol.Modern {
		return level
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.level == "" && severity(level) > severity(unsetLevel):
		return unsetLevel
	case d.level == "" || severity(level) < severity(d.level):
		return level
	default:
		return ""
	}
}

// told notes the log level that a shared target was told of.
func told(w wire, level string) {
	d, ok := w.(*duplexWire)
	if !ok || !d.shared {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.level = level
}

// perRequest reports whether the log level is the matter of each request rather
// than of the session, as for modern clients.
func (l *Leg) perRequest() bool {
	return l.lease != nil || protocol.EraOf(l.client.Version) == protocol.Modern
}

// logs reports whether a message of the target on w, if it is a log message, is one
// that the client of the leg wants.
func (l *Leg) logs(w wire, m *protocol.Message) bool {
	if m.Method != "notifications/message" || m.Kind != protocol.Notification || l.perRequest() {
		return true
	}
	wanted, set := protocol.String(l.loggingLevel())
	if d, ok := w.(*duplexWire); !set && ok && d.shared {
		d.mu.Lock()
		set = d.level != ""
		d.mu.Unlock()
		wanted = unsetLevel
	}
	return !set || atLeast(m, severity(wanted))
}

// atLeast reports whether a log message is as severe as that. Of a level that is not
// known nothing can be said: the message passes.
func atLeast(m *protocol.Message, wanted int) bool {
	level, _ := protocol.GetString(m.Params, "level")
	of := severity(level)
	return of < 0 || of >= wanted
}
