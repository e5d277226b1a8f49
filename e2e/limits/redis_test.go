// Package limits has the counters of package limit count in a real Redis.
package limits

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/internal/testgateway"
	"github.com/mcpgw/mcpgw/limit"
)

// A redisServer is Debian's redis-server on loopback.
type redisServer struct {
	address   string
	arguments []string
	*testgateway.Process
}

// startRedis runs a redis-server until the test ends. hack/deps installs it.
func startRedis(t testing.TB, more ...string) *redisServer {
	t.Helper()
	port, dir := testgateway.FreePort(t), t.TempDir()
	s := &redisServer{
		address:   fmt.Sprintf("127.0.0.1:%d", port),
		arguments: append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--logfile", filepath.Join(dir, "log")}, more...),
	}
	s.start(t)
	return s
}

// start starts it, for the first time or again.
func (s *redisServer) start(t testing.TB) {
	t.Helper()
	s.Process = testgateway.Run(t, nil, "redis-server", s.arguments...)
	testgateway.Until(t, "redis answers", func() bool {
		s.Runs(t)
		c, err := net.DialTimeout("tcp", s.address, time.Second)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "PING\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH")
	})
}

func client(t testing.TB, opts limit.RedisOptions) *limit.Redis {
	t.Helper()
	opts.Timeout = 10 * time.Second // the machine is busy
	r := limit.NewRedis(opts)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// Two processes count together, and not more than the limit, however many ask at once.
func TestRedisTogether(t *testing.T) {
	s := startRedis(t)
	counters := []limit.Counter{
		client(t, limit.RedisOptions{Address: s.address}).Counter("b", limit.Month, limit.NewMemory(limit.Month, limit.MemoryOptions{})),
		client(t, limit.RedisOptions{Address: s.address}).Counter("b", limit.Month, limit.NewMemory(limit.Month, limit.MemoryOptions{})),
	}
	now := time.Now()
	var admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			got, err := counters[i%2].Take(t.Context(), "k", 3, 50, now)
			if err != nil || got.Local {
				t.Errorf("%+v, %v", got, err)
			}
			if got.OK {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if admitted.Load() != 16 {
		t.Errorf("%d of 200 took 3 of 50", admitted.Load())
	}
	take := func(c limit.Counter, key string, amount, most int64, at time.Time) limit.Taken {
		t.Helper()
		got, err := c.Take(t.Context(), key, amount, most, at)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	last := take(counters[0], "k", 0, 50, now)
	start, reset := limit.Month.Span(now)
	if last.Left != 2 || !last.Start.Equal(start) || !last.Reset.Equal(reset) {
		t.Errorf("%+v", last)
	}
	for _, step := range []struct{ delta, left int64 }{{-8, 10}, {+100, 0}, {-1000, 50}} {
		if err := counters[1].Add(t.Context(), last, step.delta); err != nil {
			t.Fatal(err)
		}
		if got := take(counters[0], "k", 0, 50, now); got.Left != step.left {
			t.Errorf("after %d: %+v", step.delta, got)
		}
	}
	if got := take(counters[0], "other", 50, 50, now); !got.OK || got.Left != 0 {
		t.Errorf("another key: %+v", got)
	}
	if got := take(counters[0], "other", 50, 50, reset); !got.OK {
		t.Errorf("in the next window: %+v", got)
	}
	if err := counters[0].Add(t.Context(), limit.Taken{Key: "never", Start: start}, 5); err != nil {
		t.Error(err)
	}
	if got := take(counters[0], "never", 0, 50, now); got.Left != 50 {
		t.Errorf("a correction of what is gone: %+v", got)
	}
	const large = 900_000_000_000_000 // 900,000 dollars, in billionths
	if got := take(counters[0], "money", large-1, large, now); !got.OK || got.Left != 1 {
		t.Errorf("a large amount: %+v", got)
	}
}

// While Redis is gone, a counter counts in the process or fails, as it is told; when it is back, it is used again.
func TestRedisGoneAndBack(t *testing.T) {
	s := startRedis(t)
	open := client(t, limit.RedisOptions{Address: s.address}).Counter("b", limit.Month, limit.NewMemory(limit.Month, limit.MemoryOptions{}))
	closed := client(t, limit.RedisOptions{Address: s.address, Closed: true}).Counter("c", limit.Month, nil)
	now := time.Now()
	take := func(c limit.Counter) (limit.Taken, error) { return c.Take(t.Context(), "k", 1, 3, now) }
	for range 2 {
		if got, err := take(open); err != nil || !got.OK || got.Local {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if got, err := take(closed); err != nil || !got.OK {
		t.Fatalf("%+v, %v", got, err)
	}
	s.Kill()
	for i := range 4 {
		got, err := take(open)
		if err != nil || got.OK != (i < 3) || !got.Local {
			t.Errorf("request %d while it is gone: %+v, %v", i, got, err)
		}
		if i == 2 {
			if err := open.Add(t.Context(), got, 0); err != nil {
				t.Error(err)
			}
		}
	}
	if got, err := take(closed); err == nil {
		t.Errorf("it is counted while it is gone: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := open.Take(ctx, "k", 1, 3, now); err == nil {
		t.Errorf("for a client that is gone: %+v", got)
	}
	s.start(t)
	testgateway.Until(t, "it is used again", func() bool {
		got, err := take(open)
		return err == nil && !got.Local
	})
	testgateway.Until(t, "it is used again", func() bool {
		_, err := take(closed)
		return err == nil
	})
}

// A password is shown, and a wrong one is not counted with.
func TestRedisPassword(t *testing.T) {
	s := startRedis(t, "--requirepass", "secret")
	right := client(t, limit.RedisOptions{Address: s.address, Password: secret.New("secret"), Database: 3}).Counter("b", limit.Month, nil)
	if got, err := right.Take(t.Context(), "k", 1, 1, time.Now()); err != nil || !got.OK {
		t.Errorf("%+v, %v", got, err)
	}
	wrong := client(t, limit.RedisOptions{Address: s.address, Password: secret.New("wrong"), Closed: true}).Counter("b", limit.Month, nil)
	if got, err := wrong.Take(t.Context(), "k", 1, 1, time.Now()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%+v, %v", got, err)
	}
}
