package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options say how much to measure. Each has a flag and an environment variable.
type options struct {
	rounds    int
	seconds   float64
	conns     int
	rate      float64
	sessions  int
	streams   int
	fanout    int
	modelRows bool
	plainRows bool
	targets   []int
	retries   int
	foreign   float64
	only      string
	binary    string
	profile   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch role := slices.Concat(os.Args[1:], []string{""})[0]; role {
	case "mock":
		err = runMock(ctx, os.Args[2:])
	case "proxy":
		err = runProxy(ctx, os.Args[2:])
	default:
		err = compare(ctx, os.Args[1:])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the flags, whose defaults the environment may change: BENCH_ROUNDS
// for -rounds and so on.
func parse(args []string) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&o.rounds, "rounds", 7, "interleaved rounds of each load")
	fs.Float64Var(&o.seconds, "seconds", 4, "measured time of a run, after a fourth of it to warm up")
	fs.IntVar(&o.conns, "conns", 32, "connections of the closed loop, each with a session of its own")
	fs.Float64Var(&o.rate, "rate", 500, "requests a second of the open loop")
	fs.IntVar(&o.sessions, "sessions", 10_000, "idle sessions whose memory is measured (0: none)")
	fs.IntVar(&o.streams, "streams", 2_000, "open GET streams whose memory is measured (0: none)")
	fs.IntVar(&o.fanout, "fanout", 5_000, "listeners that one change is told to (0: none)")
	fs.BoolVar(&o.modelRows, "models", true, "measure requests to language models, too")
	fs.BoolVar(&o.plainRows, "plain", true, "measure plain HTTP requests, too")
	lists := fs.String("lists", "1,10,100", "comma-separated numbers of targets whose tools are listed (empty: none)")
	fs.IntVar(&o.retries, "retries", 3, "how often a disturbed run is tried")
	fs.Float64Var(&o.foreign, "foreign", 0.1, "processors that other work may hold before a run counts as disturbed")
	fs.StringVar(&o.only, "only", "", "comma-separated names of the subjects to measure (direct, nginx, proxy, proxy-again, gateway)")
	fs.StringVar(&o.binary, "gateway", "", "the gateway's binary (default: built from ./cmd/mcpgw)")
	fs.StringVar(&o.profile, "profile", "", "file for a CPU profile of the gateway, taken after its last round; FILE.allocs gets its allocations, FILE.sessions and FILE.streams what those hold, FILE.CASE is of each kind of request to language models")
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		if v, ok := os.LookupEnv("BENCH_" + strings.ToUpper(f.Name)); ok {
			if e := f.Value.Set(v); e != nil {
				err = errors.Join(err, fmt.Errorf("BENCH_%s=%q: %w", strings.ToUpper(f.Name), v, e))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if o.targets, err = targetCounts(*lists); err != nil {
		return nil, err
	}
	if o.rounds < 1 || o.seconds <= 0 || o.conns < 1 || o.rate <= 0 || o.retries < 1 {
		return nil, errors.New("rounds, seconds, conns, rate and retries must be positive")
	}
	return o, nil
}

func (o *options) measured() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

// compare measures all subjects and prints the table.
func compare(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mcpgw-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{options: o, dir: dir, pinned: runtime.NumCPU() >= 2}
	if b.pinned {
		if err := pinSelf(); err != nil {
			return err
		}
	}
	mock, err := b.startMock(ctx)
	if err != nil {
		return err
	}
	defer mock.stop()
	subjects, err := b.subjects(ctx)
	if err != nil {
		return err
	}
	for round := range o.rounds {
		for _, s := range subjects {
			if err := b.loads(ctx, s, round); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for range o.rounds {
		for _, s := range subjects {
			if err := b.plain(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for range o.rounds {
		for _, s := range subjects {
			if err := b.models(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for range o.rounds {
		for _, s := range subjects {
			if err := b.lists(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, s := range subjects {
		if o.fanout == 0 {
			break
		}
		if err := b.fans(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, s := range subjects {
		if err := b.memory(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := b.modelMemory(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if b.seal, b.open, err = tokenTimes(); err != nil {
		return err
	}
	b.print(os.Stdout, subjects)
	return nil
}
