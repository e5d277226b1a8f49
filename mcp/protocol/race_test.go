//go:build race

package protocol_test

// maxParseAllocs is larger under the race detector, which makes sync.Pool drop
// what it holds at random, so that checkers are made anew.
const maxParseAllocs = 30
