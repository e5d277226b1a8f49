package kube

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// keysSecret is the name of the Secret that session keys are derived from.
const keysSecret = "mcpgw-session-keys"

const (
	// keyLead is how long a new key is known to all data planes before sessions are sealed with it: one that can't
	// reach the controller for longer does not know the sessions that others begin meanwhile.
	keyLead = 10 * time.Minute
	// keyLife is how long a key still opens sessions after another has taken its place: they end after 24 hours.
	keyLife = 24*time.Hour + keyLead
	// maxKeys bounds the keys, so also how often they can be rotated.
	maxKeys = 16
	keySize = 32
)

// MinKeyAge is the shortest time after which session keys can be rotated: within the life of sessions there are never
// more than can be handed out.
const MinKeyAge = 2 * time.Hour

// A masterKey is what a session key of each Gateway is derived from.
type masterKey struct {
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
}

// masterKeys are ordered, the newest first.
type masterKeys []masterKey

func newMasterKey(now time.Time) masterKey {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return masterKey{Key: key, Created: now.UTC().Truncate(time.Second)}
}

// freshKeys returns the Secret of a controller that had none.
func freshKeys() (map[string][]byte, error) {
	// It is used at once, since there is nothing else: as if it had been made in time.
	return masterKeys{newMasterKey(time.Now().Add(-keyLead))}.data()
}

func (k masterKeys) data() (map[string][]byte, error) {
	text, err := json.MarshalIndent(k, "", "  ")
	return map[string][]byte{"keys.json": append(text, '\n')}, err
}

// readKeys reads the Secret. An error holds no part of a key.
func readKeys(s *corev1.Secret) (masterKeys, error) {
	var keys masterKeys
	if err := json.Unmarshal(s.Data["keys.json"], &keys); err != nil {
		return nil, fmt.Errorf("keys.json of Secret %s is not JSON of session keys", s.Name)
	}
	if len(keys) == 0 || len(keys) > maxKeys || slices.ContainsFunc(keys, func(k masterKey) bool { return len(k.Key) != keySize }) {
		return nil, fmt.Errorf("keys.json of Secret %s is not 1 to %d keys of %d bytes", s.Name, maxKeys, keySize)
	}
	slices.SortStableFunc(keys, func(a, b masterKey) int { return b.Created.Compare(a.Created) })
	return keys, nil
}

// of returns the session keys of a Gateway at a time, the one to seal with first. No other Gateway has the same.
func (k masterKeys) of(gateway types.UID, now time.Time) ([][]byte, error) {
	var settled, fresh [][]byte
	for _, master := range k {
		key, err := hkdf.Key(sha256.New, master.Key, nil, "mcpgw session key of Gateway "+string(gateway), keySize)
		if err != nil {
			return nil, err
		}
		if now.Before(master.Created.Add(keyLead)) {
			fresh = append(fresh, key)
		} else {
			settled = append(settled, key)
		}
	}
	return append(settled, fresh...), nil
}

// rotated returns what the keys should be: a new one follows each that has reached age, and what opens nothing any more is
// gone. changed is false when they are that already.
func (k masterKeys) rotated(now time.Time, age time.Duration) (next masterKeys, changed bool) {
	next = slices.Clone(k)
	if age > 0 && !now.Before(k[0].Created.Add(age)) {
		next = slices.Insert(next, 0, newMasterKey(now))
	}
	for i := 1; i < len(next); i++ {
		if !now.Before(next[i-1].Created.Add(keyLead + keyLife)) { // its successor is in use for that long
			next = next[:i]
			break
		}
	}
	next = next[:min(len(next), maxKeys)]
	return next, len(next) != len(k) || !next[0].Created.Equal(k[0].Created)
}

// rotate rotates the session keys, if it is time to.
func (s *status) rotate(ctx context.Context, o *outcome) {
	if o.keys == nil {
		return
	}
	next, changed := o.keys.rotated(time.Now(), s.source.opts.Proxies.KeyAge)
	if !changed {
		return
	}
	data, err := next.data()
	if err == nil {
		secret := o.ownSecrets[keysSecret].DeepCopy()
		secret.Data = data
		ctx, cancel := context.WithTimeout(ctx, writeWithin)
		defer cancel()
		_, err = s.watches.clients.CoreV1().Secrets(secret.Namespace).Update(ctx, secret, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err): // there is a newer version, which will come
	case err != nil:
		s.logger.Error("the session keys are not rotated", slog.Any("error", err))
	default:
		s.logger.Info("the session keys are rotated", slog.Int("keys", len(next)))
	}
}
