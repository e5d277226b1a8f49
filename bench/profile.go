package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// profileLoad runs the closed loop once more and saves a CPU profile of the
// subject, and one of its allocations beside it, in files whose names go on with suffix.
func (b *bench) profileLoad(ctx context.Context, run *running, suffix string) error {
	cpu := make(chan error, 1)
	go func() {
		cpu <- download(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", run.debug, max(1, int(b.seconds))), b.profile+suffix)
	}()
	_, err := b.load(ctx, run, 0)
	return errors.Join(err, <-cpu, download(ctx, run.debug+"/debug/pprof/allocs", b.profile+suffix+".allocs"))
}

// download saves what url answers in a file.
func download(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
