package kube

import (
	"bytes"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestKeys walks through the life of session keys: all data planes know a key before it is used, and it opens sessions
// for as long as they last.
func TestKeys(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const age = 7 * 24 * time.Hour
	keys := masterKeys{newMasterKey(start.Add(-keyLead))}
	order := func(at time.Time) [][]byte {
		t.Helper()
		out, err := keys.of("uid", at)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	step := func(at time.Time, want int) {
		t.Helper()
		next, changed := keys.rotated(at, age)
		if len(next) != want || changed != (len(next) != len(keys)) {
			t.Fatalf("at %v there are %d keys (changed: %v), not %d", at.Sub(start), len(next), changed, want)
		}
		keys = next
	}
	first := order(start)[0]
	due := start.Add(age - keyLead)
	step(due.Add(-time.Second), 1)
	step(due, 2)
	if got := order(due); len(got) != 2 || !bytes.Equal(got[0], first) {
		t.Error("a new key is used before all can know it")
	}
	used := due.Add(keyLead)
	if got := order(used.Add(-time.Second)); !bytes.Equal(got[0], first) {
		t.Error("a new key is used too early")
	}
	if got := order(used); bytes.Equal(got[0], first) || !bytes.Equal(got[1], first) {
		t.Error("the new key is not in use, or the old one opens nothing")
	}
	step(used.Add(keyLife-time.Second), 2)
	step(used.Add(keyLife), 1)
	if got := order(used.Add(keyLife)); len(got) != 1 || bytes.Equal(got[0], first) {
		t.Error("the old key is still there")
	}
	if next, changed := keys.rotated(start.Add(100*age), 0); changed || len(next) != 1 {
		t.Error("keys that are for ever are rotated")
	}
}

// TestKeysBound: keys that are rotated as fast as can be are never more than can be handed out, and none is gone before its sessions are.
func TestKeysBound(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := masterKeys{newMasterKey(now)}
	for range 2000 {
		now = now.Add(5 * time.Minute)
		next, _ := keys.rotated(now, MinKeyAge)
		for i, old := range keys[1:] { // keys[i] is its successor
			if len(next) < 2 || !next[len(next)-1].Created.After(old.Created) {
				continue
			}
			if now.Before(keys[i].Created.Add(keyLead + keyLife)) {
				t.Fatalf("a key is gone %v after its successor came", now.Sub(keys[i].Created))
			}
		}
		if keys = next; len(keys) > maxKeys {
			t.Fatalf("there are %d keys", len(keys))
		}
	}
	if len(keys) < 10 {
		t.Errorf("there are %d keys: it was to be tight", len(keys))
	}
}

// TestKeysOwn: Gateways have different keys, and a Secret that is not of keys is refused.
func TestKeysOwn(t *testing.T) {
	data, err := freshKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readKeys(&corev1.Secret{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	a, errA := keys.of("a", time.Now())
	b, errB := keys.of("b", time.Now())
	if errA != nil || errB != nil || bytes.Equal(a[0], b[0]) || bytes.Equal(a[0], keys[0].Key) {
		t.Error("Gateways share a key")
	}
	for _, text := range []string{"", "[]", "{}", `[{"key":"AAAA","created":"2026-01-01T00:00:00Z"}]`} {
		if _, err := readKeys(&corev1.Secret{Data: map[string][]byte{"keys.json": []byte(text)}}); err == nil {
			t.Errorf("%q is taken for keys", text)
		}
	}
}
