//go:build !race

package protocol_test

// maxParseAllocs is how often Parse may allocate for a tools/call: the message,
// its id, and a method that is not of the common ones.
const maxParseAllocs = 3
