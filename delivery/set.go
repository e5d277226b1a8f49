package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Set is all that one data plane needs, by name: Kind/namespace/name. It is read-only once it is published. Its objects
// hold secrets.
type Set map[string]Object

// An Object is an object as an API server has it, in JSON.
type Object struct {
	Version string // of the content: equal versions, equal JSON
	JSON    []byte // may hold secrets
}

// NewObject returns an object of the JSON.
func NewObject(text []byte) Object {
	sum := sha256.Sum256(text)
	return Object{Version: hex.EncodeToString(sum[:12]), JSON: text}
}

// Name returns the name that an object has in a [Set].
func Name(kind string, o metav1.Object) string {
	return kind + "/" + o.GetNamespace() + "/" + o.GetName()
}

// sessionKeys is the name of the session keys in a [Set].
const sessionKeys = "SessionKeys//"

// SetSessionKeys adds the keys that sessions are sealed with, the newest first.
func (s Set) SetSessionKeys(keys [][]byte) {
	text, _ := json.Marshal(keys) // of plain data
	s[sessionKeys] = NewObject(text)
}

// version identifies the content of a set.
func (s Set) version() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(h, "%s %s\n", name, s[name].Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// versions returns the versions of the objects, by name.
func (s Set) versions() map[string]string {
	out := make(map[string]string, len(s))
	for name, o := range s {
		out[name] = o.Version
	}
	return out
}
