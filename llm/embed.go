package llm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpgw/mcpgw/llm/bedrock"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// maxParallel bounds the requests to a provider that one request for embeddings is cut into, at a
// time.
const maxParallel = 8

// atOnce returns how many inputs a request for embeddings of a model may hold.
func (f form) atOnce(model string) int {
	switch f {
	case embedContent, embedTitan, embedNova:
		return 1
	case embedContents:
		return 100
	case embedCohere:
		return bedrock.CohereTexts
	case predict:
		if strings.Contains(model, "gemini-") {
			return 1
		}
		return 250
	default:
		return dialect.MaxInputs
	}
}

// parts returns the requests that one in canonical form is to the provider: itself, or several of
// no more inputs than it takes at once.
func (a *attempt) parts(r *dialect.Request) iter.Seq[*dialect.Request] {
	return func(yield func(*dialect.Request) bool) {
		if len(r.Inputs) == 0 {
			yield(r)
			return
		}
		for inputs := range slices.Chunk(r.Inputs, a.speaks.atOnce(a.named)) {
			part := *r
			part.Inputs = inputs
			if !yield(&part) {
				return
			}
		}
	}
}

// complete makes the embeddings of an answer to part i of a translated request numbers, and returns
// an error unless there are as many as inputs. Where bytes pass they may be anything.
func (a *attempt) complete(r *dialect.Response, i int) (err error) {
	if !a.speaks.embeds() || a.same {
		return nil
	}
	n := a.speaks.atOnce(a.named)
	if want := min(n, len(a.read.Inputs)-i*n); len(r.Vectors) != want {
		return fmt.Errorf("there are %d embeddings of %d inputs", len(r.Vectors), want)
	}
	for j, v := range r.Vectors {
		if r.Vectors[j], err = v.Numbers(); err != nil {
			return err
		}
	}
	return nil
}

// A received is the answer to a part of a request.
type received struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// gather sends the parts of a request for embeddings and answers the client with all of them. The
// first that fails ends the others.
func (a *attempt) gather(bodies []payload) (*failure, error) {
	ctx, cancel := context.WithCancelCause(a.within)
	defer cancel(nil)
	a.sent = time.Now()
	defer time.AfterFunc(a.cfg.Clocks.Total, func() { cancel(errTotal) }).Stop()
	answers := make([]received, len(bodies))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	requests := make([]*http.Request, len(bodies))
	for i, body := range bodies {
		var err error
		if requests[i], err = a.request(ctx, body); err != nil {
			return nil, err
		}
		requests[i].Header.Del("Idempotency-Key") // which is of one request, and not of several
	}
	var size atomic.Int64
	for i, r := range requests {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			answers[i] = a.receive(r, &size)
			if answers[i].err != nil || answers[i].status != http.StatusOK {
				return &partError{i}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return a.partFailed(err, answers)
	}
	all := &dialect.Response{Usage: dialect.Usage{Known: true}}
	for i := range answers {
		r, err := a.decode(answers[i].header, answers[i].body)
		if err == nil {
			err = a.complete(r, i)
		}
		if err != nil {
			return a.unread(err, answers[i].header, answers[i].body)
		}
		all.Model = r.Model
		all.Vectors = append(all.Vectors, r.Vectors...)
		all.Lost = append(all.Lost, r.Lost...)
		all.Usage.Input += r.Usage.Input
		all.Usage.AudioInput += r.Usage.AudioInput
		all.Usage.Known = all.Usage.Known && r.Usage.Known
	}
	if !all.Usage.Known {
		all.Usage = dialect.Usage{}
	}
	return a.answered(all, answers[0].header, nil)
}

// A partError says that a part of a request failed.
type partError struct{ part int }

func (e *partError) Error() string { return fmt.Sprintf("part %d failed", e.part) }

// receive sends a part of a request and reads the answer, with which no more than maxAnswer may
// have come of all parts.
func (a *attempt) receive(r *http.Request, size *atomic.Int64) (got received) {
	resp, err := a.provider.RoundTripper.RoundTrip(r)
	if err != nil {
		return received{err: err}
	}
	defer func() { _ = resp.Body.Close() }() // all that can be learned was learned by reading
	got = received{status: resp.StatusCode, header: resp.Header}
	if e := resp.Header.Get("Content-Encoding"); e != "" && got.status == http.StatusOK {
		got.err = fmt.Errorf("the answer has Content-Encoding %q, which was not asked for", e)
		return got
	}
	got.body, got.err = readAll(resp.Body, maxAnswer)
	if size.Add(int64(len(got.body))) > maxAnswer && got.err == nil {
		got.err = errTooLarge
	}
	return got
}

// partFailed takes the failure of the part of a request that failed first.
func (a *attempt) partFailed(err error, answers []received) (*failure, error) {
	var e *partError
	if !errors.As(err, &e) {
		return a.lost(err)
	}
	got := &answers[e.part]
	if got.err != nil {
		return a.lost(got.err)
	}
	return a.denied(got.status, got.header, got.body)
}
