package protocol

import (
	"testing"
	"time"
)

func TestTTL(t *testing.T) {
	for _, tt := range []struct {
		result string
		want   time.Duration
		ok     bool
	}{
		{`{}`, 0, false},
		{`{"ttlMs":null}`, 0, false},
		{`{"ttlMs":"5"}`, 0, false},
		{`{"ttlMs":0}`, 0, true},
		{`{"ttlMs":-1}`, 0, true},
		{`{"ttlMs":1500}`, 1500 * time.Millisecond, true},
		{`{"ttlMs":1.5e3}`, 1500 * time.Millisecond, true},
		{`{"ttlMs":1e300}`, maxTTL, true},
		{`{"ttlMs":99999999999999999999}`, maxTTL, true},
	} {
		if got, ok := TTL([]byte(tt.result)); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v %v", tt.result, got, ok)
		}
	}
}
