package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// Limits and times of fetching keys.
const (
	maxKeySet    = 256 << 10
	fetchTimeout = 10 * time.Second
	// patience is how long a request waits for keys that are being fetched.
	patience = 3 * time.Second
	// pause is the time between two fetches that requests ask for: tokens with made-up key ids
	// must not become a load on the issuer.
	pause = 10 * time.Second
	// After a fetch that failed, the next is tried after firstRetry, then after twice that, up to
	// the time that a good one would last, and lastRetry.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// RemoteOptions configure [RemoteKeys].
type RemoteOptions struct {
	URL       string            // of the key set
	Issuer    string            // whose keys they are, for log and metrics
	Transport http.RoundTripper // reaches the host of URL
	Every     time.Duration     // between two fetches
	Logger    *slog.Logger
	Metrics   *telemetry.Metrics // may be nil
}

// RemoteKeys are the keys that a server publishes. While [RemoteKeys.Run] runs they are fetched
// now and then, and when a token names one that is not known. The last good ones stay while the
// server fails.
type RemoteKeys struct {
	opts    RemoteOptions
	client  *http.Client
	current atomic.Pointer[KeySet]

	mu      sync.Mutex
	pending *fetch    // under way, or asked for
	ended   time.Time // when the last one was over
	asked   chan struct{}

	// What only Run touches.
	digest  [sha256.Size]byte
	failing bool
}

var _ Keys = (*RemoteKeys)(nil)

// A fetch is one attempt to fetch the keys. done is closed when it is over.
type fetch struct{ done chan struct{} }

// NewRemoteKeys returns keys that nobody has fetched yet.
func NewRemoteKeys(opts RemoteOptions) *RemoteKeys {
	return &RemoteKeys{
		opts: opts,
		client: &http.Client{
			Transport: opts.Transport,
			Timeout:   fetchTimeout,
			CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				return fmt.Errorf("redirected to %s, which is not followed: write that URL, if it is meant", r.URL.Redacted())
			},
		},
		// The first is under way as soon as Run begins.
		pending: &fetch{done: make(chan struct{})},
		asked:   make(chan struct{}, 1),
	}
}

// Current implements [Keys].
func (k *RemoteKeys) Current() *KeySet { return k.current.Load() }

// Refresh implements [Keys]. It waits for a fetch that is under way, and asks for one when the last is
// some time ago.
func (k *RemoteKeys) Refresh(ctx context.Context, old *KeySet) *KeySet {
	f := k.ask(old)
	if f == nil {
		return k.Current()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return k.Current()
}

// ask returns the fetch to wait for, or nil.
func (k *RemoteKeys) ask(old *KeySet) *fetch {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.current.Load() != old:
		return nil // newer ones are here
	case k.pending != nil:
		return k.pending
	case time.Since(k.ended) < pause:
		return nil
	}
	k.pending = &fetch{done: make(chan struct{})}
	k.asked <- struct{}{} // has room: there is one at a time
	return k.pending
}

// Run fetches the keys until ctx ends.
func (k *RemoteKeys) Run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		wait := k.opts.Every
		if err := k.fetch(ctx); err != nil {
			if ctx.Err() != nil {
				break
			}
			wait = min(retry, max(k.opts.Every, firstRetry))
			retry = min(2*retry, lastRetry)
			k.failed(err)
		} else {
			retry = firstRetry
			k.succeeded()
		}
		k.over()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
			k.begin()
		case <-k.asked:
		}
		timer.Stop()
	}
	k.over()
}

// begin notes that a fetch is under way which nobody has asked for.
func (k *RemoteKeys) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil {
		k.pending = &fetch{done: make(chan struct{})}
		return
	}
	<-k.asked // somebody has asked for it meanwhile
}

// over ends the fetch that is under way.
func (k *RemoteKeys) over() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending != nil {
		close(k.pending.done)
		k.pending = nil
	}
	k.ended = time.Now()
}

// fetch fetches the keys once.
func (k *RemoteKeys) fetch(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.opts.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxKeySet:
		return fmt.Errorf("the key set is longer than %d bytes", maxKeySet)
	}
	digest := sha256.Sum256(data)
	if digest == k.digest {
		return nil // the same set, so that what was verified with it stays so
	}
	set, ignored, err := ParseKeys(data)
	if err != nil {
		return err
	}
	if len(ignored) > 0 {
		k.opts.Logger.Warn("keys of an issuer are not used", slog.String("issuer", k.opts.Issuer), slog.Any("reason", errors.Join(ignored...)))
	}
	k.digest = digest
	k.current.Store(set)
	return nil
}

// failed says once that the keys can't be fetched.
func (k *RemoteKeys) failed(err error) {
	k.opts.Metrics.KeysFetched(k.opts.Issuer, false)
	if k.failing {
		return
	}
	k.failing = true
	message := "keys of an issuer can't be fetched: its tokens are answered 503"
	if k.Current() != nil {
		message = "keys of an issuer can't be fetched: the last good ones stay in use"
	}
	k.opts.Logger.Warn(message, slog.String("issuer", k.opts.Issuer), slog.String("url", k.opts.URL), slog.Any("error", err))
}

func (k *RemoteKeys) succeeded() {
	k.opts.Metrics.KeysFetched(k.opts.Issuer, true)
	if k.failing {
		k.failing = false
		k.opts.Logger.Info("keys of an issuer are fetched again", slog.String("issuer", k.opts.Issuer))
	}
}
