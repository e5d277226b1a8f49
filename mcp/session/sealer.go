package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
)

// A Sealer seals small texts (session ids, cursors, requestState) so that only a
// process with one of its keys can read or make them. Its cipher is
// XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived from the
// first 12 of 24 random bytes, with the other 12 as nonce, so that any number of
// processes can seal any number of texts with one key. Each process draws the
// first 12 bytes anew after so many texts, and keeps what it derived from them.
// Keys are derived once, by HKDF-SHA256, and can be changed. It is safe for
// concurrent use.
type Sealer struct {
	keys atomic.Pointer[[]*sealKey] // the first seals

	mu     sync.Mutex
	key    *sealKey         // that the texts now are sealed with
	prefix [prefixSize]byte // of their nonces
	aead   cipher.AEAD      // derived from these
	left   int              // texts until prefix is drawn anew
}

// A sealKey is one key, ready for use.
type sealKey struct {
	id    [keyIDSize]byte // tells keys apart without trying them
	block cipher.Block
	mask  [aes.BlockSize]byte // K1 of CMAC
	// isolation keys the hashes of Isolate.
	isolation []byte
	// derived holds what was derived from the prefixes of texts that did open.
	derived *lru.Cache[[prefixSize]byte, cipher.AEAD]
}

const (
	keySize     = 32
	keyIDSize   = 4
	prefixSize  = 12
	nonceSize   = 24
	sealVersion = 1
	headerSize  = 1 + keyIDSize + nonceSize
	tagSize     = 16
	// maxPerPrefix bounds the texts sealed under one derived key, far below what
	// random nonces of 96 bits allow (NIST SP 800-38D, section 8.3).
	maxPerPrefix = 1 << 24
	// maxDerived bounds the derived keys that are kept, for each key.
	maxDerived = 64
	// maxKeys bounds the keys of a Sealer.
	maxKeys = 16
)

var sealEncoding = base64.RawURLEncoding.Strict()

// NewSealer returns a Sealer that seals with keys[0] and opens with any of keys,
// 32 bytes each. Without keys it makes a random one.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	if len(keys) == 0 {
		key := make([]byte, keySize)
		rand.Read(key) // never fails
		keys = [][]byte{key}
	}
	s := &Sealer{}
	if err := s.SetKeys(keys...); err != nil {
		return nil, err
	}
	return s, nil
}

// SetKeys has the Sealer seal with keys[0] from now on, and open with any of keys,
// of which there is at least one. It changes nothing when there is an error.
func (s *Sealer) SetKeys(keys ...[]byte) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("%d session keys: there may be 1 to %d", len(keys), maxKeys)
	}
	var old []*sealKey
	if p := s.keys.Load(); p != nil {
		old = *p
	}
	next := make([]*sealKey, 0, len(keys))
	for i, key := range keys {
		if len(key) != keySize {
			return fmt.Errorf("session key %d has %d bytes instead of %d", i+1, len(key), keySize)
		}
		k, err := newSealKey(key)
		if err != nil {
			return fmt.Errorf("session key %d: %w", i+1, err)
		}
		same := func(o *sealKey) bool { return o.id == k.id }
		if slices.ContainsFunc(next, same) {
			return fmt.Errorf("session key %d is there twice", i+1)
		}
		if j := slices.IndexFunc(old, same); j >= 0 {
			k = old[j] // with what was derived from it
		}
		next = append(next, k)
	}
	s.keys.Store(&next)
	return nil
}

func newSealKey(key []byte) (*sealKey, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "mcpgw seal v1", keySize+keyIDSize)
	if err != nil {
		return nil, err
	}
	k, err := newXAES(derived[:keySize])
	if err != nil {
		return nil, err
	}
	copy(k.id[:], derived[keySize:])
	k.isolation, err = hkdf.Key(sha256.New, key, nil, "mcpgw isolation v1", keySize)
	return k, err
}

// newXAES prepares key for XAES-256-GCM.
func newXAES(key []byte) (*sealKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k := &sealKey{block: block}
	k.derived, _ = lru.New[[prefixSize]byte, cipher.AEAD](maxDerived) // the error is for sizes that are not positive
	block.Encrypt(k.mask[:], k.mask[:])
	msb := 0
	for i := len(k.mask) - 1; i >= 0; i-- {
		msb, k.mask[i] = int(k.mask[i]>>7), k.mask[i]<<1|byte(msb)
	}
	k.mask[len(k.mask)-1] ^= byte(subtle.ConstantTimeSelect(msb, 0b10000111, 0))
	return k, nil
}

// derive returns the AEAD for the first half of a nonce.
func (k *sealKey) derive(nonce []byte) (cipher.AEAD, error) {
	var key [keySize]byte
	for i := range 2 {
		m := [aes.BlockSize]byte{0, byte(i + 1), 'X', 0}
		copy(m[4:], nonce[:prefixSize])
		subtle.XORBytes(m[:], m[:], k.mask[:])
		k.block.Encrypt(key[i*aes.BlockSize:], m[:])
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bind returns what a text is bound to beside its key.
func bind(dst []byte, purpose string, aad []byte) []byte {
	dst = append(dst, sealVersion)
	dst = binary.AppendUvarint(dst, uint64(len(purpose)))
	dst = append(dst, purpose...)
	return append(dst, aad...)
}

// Seal returns plain sealed for one purpose ("session", "cursor", "state", "task") and
// bound to aad, as base64url text of (len(plain)+45)·4/3 bytes.
func (s *Sealer) Seal(purpose string, plain, aad []byte) string {
	k, prefix, aead := s.current()
	sealed := make([]byte, headerSize, headerSize+len(plain)+tagSize)
	sealed[0] = sealVersion
	copy(sealed[1:], k.id[:])
	nonce := sealed[1+keyIDSize : headerSize]
	copy(nonce, prefix[:])
	rand.Read(nonce[prefixSize:]) // never fails
	var scratch [256]byte
	sealed = aead.Seal(sealed, nonce[12:], plain, bind(scratch[:0], purpose, aad))
	return sealEncoding.EncodeToString(sealed)
}

// current returns what to seal the next text with.
func (s *Sealer) current() (*sealKey, [prefixSize]byte, cipher.AEAD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := (*s.keys.Load())[0]
	if s.left == 0 || s.key != k {
		rand.Read(s.prefix[:]) // never fails
		aead, err := k.derive(s.prefix[:])
		if err != nil {
			panic(errors.Join(errors.New("session: AES-256 is not available"), err)) // NewSealer has used it
		}
		s.key, s.aead, s.left = k, aead, maxPerPrefix
	}
	s.left--
	return k, s.prefix, s.aead
}

// Holds reports whether the key that the text says it was sealed with is still one
// of the Sealer's. It does not open the text.
func (s *Sealer) Holds(sealed string) bool { return s.keyOf(sealed) != nil }

// keyOf returns the key that a text says it was sealed with, nil when the Sealer has
// no such key.
func (s *Sealer) keyOf(sealed string) *sealKey {
	var head [1 + keyIDSize + 1]byte // 8 characters
	if len(sealed) < 8 {
		return nil
	}
	if _, err := sealEncoding.Decode(head[:], []byte(sealed[:8])); err != nil {
		return nil
	}
	for _, k := range *s.keys.Load() {
		if string(k.id[:]) == string(head[1:1+keyIDSize]) {
			return k
		}
	}
	return nil
}

// Isolate returns the keyed hash of what tells callers apart: the same in each
// process, and of no use to who has no key. The key is the one that sealed was
// sealed with, so that what a text is bound to is found again after a change of keys;
// where sealed is no such text, it is the one that seals.
func (s *Sealer) Isolate(sealed string, credentials []byte) string {
	k := s.keyOf(sealed)
	if k == nil {
		k = (*s.keys.Load())[0]
	}
	mac := hmac.New(sha256.New, k.isolation)
	mac.Write(credentials)
	return hex.EncodeToString(mac.Sum(nil))
}

// Open reverses Seal; ok is false for anything that was not sealed for this
// purpose and aad by one of the keys. Everything after that is the caller's:
// expiry is in the plain text.
func (s *Sealer) Open(purpose, sealed string, aad []byte) (plain []byte, ok bool) {
	if strings.ContainsAny(sealed, "\r\n") { // which the decoder skips: one text, one spelling
		return nil, false
	}
	raw, err := sealEncoding.DecodeString(sealed)
	if err != nil || len(raw) < headerSize+tagSize || raw[0] != sealVersion {
		return nil, false
	}
	for _, k := range *s.keys.Load() {
		if string(k.id[:]) != string(raw[1:1+keyIDSize]) {
			continue
		}
		nonce := raw[1+keyIDSize : headerSize]
		aead, known := k.derived.Get([prefixSize]byte(nonce))
		if !known {
			if aead, err = k.derive(nonce); err != nil {
				return nil, false
			}
		}
		var scratch [256]byte
		plain, err := aead.Open(raw[headerSize:headerSize], nonce[prefixSize:], raw[headerSize:], bind(scratch[:0], purpose, aad))
		if err != nil {
			return nil, false
		}
		if !known { // only what did open: others cannot push it out
			k.derived.Add([prefixSize]byte(nonce), aead)
		}
		return plain, true
	}
	return nil, false
}
