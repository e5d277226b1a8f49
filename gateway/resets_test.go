package gateway

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A connection is closed by the reset behind the limit, and not by as many over a longer time.
func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer func() { _ = there.Close() }()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = there.Read(make([]byte, 1))
		}()
		closed := func() bool {
			synctest.Wait()
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}
		ctx, cancel := context.WithCancel(connContext(t.Context(), here))
		r := (&http.Request{ProtoMajor: 2}).WithContext(ctx)
		for range maxResets + 1 {
			noteReset(r) // it was not given up
		}
		cancel()
		for range 2 {
			for range maxResets {
				noteReset(r)
			}
			if closed() {
				t.Fatal("closed at the limit")
			}
			time.Sleep(resetWindow + time.Second)
		}
		for range maxResets + 1 {
			noteReset((&http.Request{ProtoMajor: 1}).WithContext(ctx))
		}
		if closed() {
			t.Fatal("closed by requests of HTTP/1.1")
		}
		for range maxResets + 1 {
			noteReset(r)
		}
		if !closed() {
			t.Error("not closed over the limit")
		}
	})
}
