package protocol

import (
	"strconv"
	"time"
)

// maxTTL bounds what a TTL is taken for, so that it can be counted with.
const maxTTL = 365 * 24 * time.Hour

// TTL returns the ttlMs of a result (2026-07-28, Caching); ok is false when it has
// none that is a number. What is negative counts as 0, what is longer than a year as a
// year.
func TTL(result []byte) (ttl time.Duration, ok bool) {
	ms, err := strconv.ParseFloat(string(Get(result, "ttlMs")), 64)
	switch {
	case err != nil:
		return 0, false
	case ms <= 0:
		return 0, true
	case ms >= float64(maxTTL/time.Millisecond):
		return maxTTL, true
	default:
		return time.Duration(ms) * time.Millisecond, true
	}
}
