package limit

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// Defaults of a [Redis].
const (
	redisTimeout = 250 * time.Millisecond
	redisPause   = time.Second // after a failure
)

// A RedisOptions says where a [Redis] is.
type RedisOptions struct {
	Address  string // host:port
	Username string
	Password secret.Value
	Database int
	TLS      *tls.Config   // nil is plain text
	Timeout  time.Duration // of each answer; default 250ms
	// Closed has a [Counter] fail while Redis can't be reached. Otherwise it counts in this
	// process meanwhile.
	Closed bool
	// Logger gets what operators should know; default [slog.Default].
	Logger *slog.Logger
}

// A Redis keeps counters that several processes share. Each answer of a counter is one script, so that
// nothing comes between. After a failure Redis is not asked for a second. It is safe for concurrent use.
type Redis struct {
	opts   RedisOptions
	client *redis.Client
	until  atomic.Int64 // it is not asked before, in nanoseconds since 1970
	down   atomic.Bool  // that it can't be reached was said
}

// silence keeps the library from writing to the standard error: what there is to say, [Redis] says.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// NewRedis returns a Redis. It connects once something is counted.
func NewRedis(opts RedisOptions) *Redis {
	if opts.Timeout <= 0 {
		opts.Timeout = redisTimeout
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	silence()
	return &Redis{opts: opts, client: redis.NewClient(&redis.Options{
		Addr: opts.Address, Username: opts.Username, Password: opts.Password.Reveal(), DB: opts.Database, TLSConfig: opts.TLS,
		DialTimeout: opts.Timeout, DialerRetries: 1, ReadTimeout: opts.Timeout, WriteTimeout: opts.Timeout, PoolTimeout: opts.Timeout,
		MaxRetries:            -1, // what was counted once must not be counted again
		ContextTimeoutEnabled: true, DisableIdentity: true,
	})}
}

// Close closes the connections.
func (r *Redis) Close() error { return r.client.Close() }

// Counter returns the counter of that name, whose windows are those of w. meanwhile counts while Redis can't be
// reached, unless the Redis fails closed.
func (r *Redis) Counter(name string, w Window, meanwhile *Memory) Counter {
	return &shared{redis: r, name: name, window: w, meanwhile: meanwhile}
}

type shared struct {
	redis     *Redis
	name      string
	window    Window
	meanwhile *Memory
}

// take takes ARGV[1] if no more than ARGV[2] is taken then, until ARGV[3].
var take = redis.NewScript(`
local used = redis.call('GET', KEYS[1]) or '0'
if tonumber(used) + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return {0, used} end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return {1, redis.call('GET', KEYS[1])}`)

// add adds ARGV[1] to what is there.
var add = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('INCRBY', KEYS[1], ARGV[1]) < 0 then redis.call('SET', KEYS[1], '0', 'KEEPTTL') end
return 1`)

var errPaused = errors.New("it failed a moment ago")

// Take implements [Counter].
func (s *shared) Take(ctx context.Context, key string, amount, most int64, now time.Time) (Taken, error) {
	start, reset := s.window.Span(now)
	t := Taken{Key: key, Start: start, Reset: reset}
	answer, err := s.run(ctx, take, t, amount, most, reset.Add(time.Minute).UnixMilli())
	if err == nil {
		var used int64
		if t.OK, used, err = taken(answer); err == nil {
			t.Left = max(most-used, 0)
			return t, nil
		}
	}
	if ctx.Err() != nil {
		return Taken{}, context.Cause(ctx)
	}
	if s.redis.opts.Closed {
		return Taken{}, fmt.Errorf("redis at %s: %w", s.redis.opts.Address, err)
	}
	t, err = s.meanwhile.Take(ctx, key, amount, most, now)
	t.Local = true
	return t, err
}

// taken reads the answer of take.
func taken(answer any) (ok bool, used int64, err error) {
	list, _ := answer.([]any)
	if len(list) != 2 {
		return false, 0, fmt.Errorf("the answer %v was not expected", answer)
	}
	text, _ := list[1].(string)
	used, err = strconv.ParseInt(text, 10, 64)
	return list[0] == int64(1), used, err
}

// Add implements [Counter].
func (s *shared) Add(ctx context.Context, t Taken, delta int64) error {
	if t.Local {
		return s.meanwhile.Add(ctx, t, delta)
	}
	_, err := s.run(ctx, add, t, delta)
	return err
}

// run runs a script on the key of what is taken.
func (s *shared) run(ctx context.Context, script *redis.Script, t Taken, args ...any) (any, error) {
	r := s.redis
	if time.Now().UnixNano() < r.until.Load() {
		return nil, errPaused
	}
	sum := sha256.Sum256([]byte(s.name + "\x00" + t.Key))
	key := "mcpgw:limit:" + hex.EncodeToString(sum[:16]) + ":" + strconv.FormatInt(t.Start.Unix(), 10)
	within, cancel := context.WithTimeout(ctx, 2*r.opts.Timeout) // to connect, and to be answered
	defer cancel()
	answer, err := script.Run(within, r.client, []string{key}, args...).Result()
	switch {
	case err == nil:
		if r.down.CompareAndSwap(true, false) {
			r.opts.Logger.Info("Redis is back: limits are shared again", "address", r.opts.Address)
		}
	case ctx.Err() == nil:
		r.until.Store(time.Now().Add(redisPause).UnixNano())
		if r.down.CompareAndSwap(false, true) {
			meanwhile := "each process counts for itself meanwhile"
			if r.opts.Closed {
				meanwhile = "what it limits is refused meanwhile"
			}
			r.opts.Logger.Error("Redis can't be reached: "+meanwhile, "address", r.opts.Address, "error", err)
		}
	}
	return answer, err
}
