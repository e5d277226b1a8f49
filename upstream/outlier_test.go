package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A history is what endpoints answered, a letter each: o well, x with 500, and . is a second
// in which nothing happens.
func TestOutlier(t *testing.T) {
	consecutive := Outlier{Consecutive: 3, ConsecutivePercent: 100, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxPercent: 100}
	ten := consecutive
	ten.MaxPercent = 10
	half := consecutive
	half.MaxPercent = 50
	quick := consecutive
	quick.Interval, quick.BaseEjection = 5*time.Second, 10*time.Second
	long := consecutive
	long.BaseEjection = 200 * time.Second
	never := consecutive
	never.ConsecutivePercent = 0
	off := consecutive
	off.Consecutive = 0
	rate := off
	rate.SuccessRate = &SuccessRate{Percent: 100, MinHosts: 3, RequestVolume: 5, StdevFactor: 1000}
	unsure := off
	unsure.SuccessRate = &SuccessRate{Percent: 0, MinHosts: 3, RequestVolume: 5, StdevFactor: 1000}

	wait := func(seconds int) string { return strings.Repeat(".", seconds) }
	for _, tc := range []struct {
		name    string
		outlier Outlier
		history []string // of endpoints a, b, …; they happen one after the other
		panic   int
		want    string // the endpoints that are used then
	}{
		{"nothing happened", consecutive, []string{"", "", ""}, 50, "abc"},
		{"two failures are not three", consecutive, []string{"xx", "", ""}, 50, "abc"},
		{"three in a row", consecutive, []string{"xxx", "", ""}, 50, "bc"},
		{"a success in between", consecutive, []string{"xxoxx", "", ""}, 50, "abc"},
		{"it comes back after the time and a sweep", consecutive, []string{"xxx" + wait(39), "", ""}, 50, "abc"},
		{"not before", consecutive, []string{"xxx" + wait(29), "", ""}, 50, "bc"},
		{"the second ejection takes twice as long", consecutive, []string{"xxx" + wait(31) + "xxx" + wait(55), "", ""}, 50, "bc"},
		{"and then it is back", consecutive, []string{"xxx" + wait(31) + "xxx" + wait(71), "", ""}, 50, "abc"},
		{"healthy intervals are counted in its favour", consecutive, []string{"xxx" + wait(31) + "o" + wait(15) + "xxx" + wait(41), "", ""}, 50, "abc"},
		{"a shorter time: not before", quick, []string{"xxx" + wait(9), "", ""}, 50, "bc"},
		{"a shorter time, a shorter interval", quick, []string{"xxx" + wait(16), "", ""}, 50, "abc"},
		{"no ejection is longer than 300 s: not before", long, []string{"xxx" + wait(201) + "xxx" + wait(299), "", ""}, 50, "bc"},
		{"no ejection is longer than 300 s", long, []string{"xxx" + wait(201) + "xxx" + wait(312), "", ""}, 50, "abc"},
		{"one may always be ejected", ten, []string{"xxx", "", ""}, 0, "bc"},
		{"but no second one over the share", ten, []string{"xxx", "xxx", ""}, 0, "bc"},
		{"half of four", half, []string{"xxx", "xxx", "xxx", ""}, 0, "cd"},
		{"panic below half", consecutive, []string{"xxx", "xxx", ""}, 50, "abc"},
		{"no panic at a threshold of 0", consecutive, []string{"xxx", "xxx", ""}, 0, "c"},
		{"all ejected, all used", consecutive, []string{"xxx", "xxx", "xxx"}, 0, "abc"},
		{"detected, not enforced", never, []string{"xxx", "", ""}, 50, "abc"},
		{"switched off", off, []string{"xxxxxxxxxxxx", "", ""}, 50, "abc"},
		{"low success rate", rate, []string{"ooooooxxx", "ooooooooo", "ooooooooo", "ooooooooo" + wait(11)}, 50, "bcd"},
		{"too few requests", rate, []string{"oxxx", "ooooooooo", "ooooooooo", "ooooooooo" + wait(11)}, 50, "abcd"},
		{"too few endpoints with enough", rate, []string{"ooooooxxx", "ooooooooo", "o", "o" + wait(11)}, 50, "abcd"},
		{"all alike", rate, []string{"oooxxx", "oooxxx", "oooxxx" + wait(11)}, 50, "abc"},
		{"no enforcement of rates", unsure, []string{"ooooooxxx", "ooooooooo", "ooooooooo", "ooooooooo" + wait(11)}, 50, "abcd"},
		{"counted anew in each interval", rate, []string{"oxxx" + wait(11) + "oxxx", "ooooooooo", "ooooooooo", "ooooooooo" + wait(11)}, 50, "abcd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPool(Options{Outlier: &tc.outlier, PanicPercent: &tc.panic, Logger: slog.New(slog.DiscardHandler)})
				var addresses []string
				for i := range tc.history {
					addresses = append(addresses, string(rune('a'+i)))
				}
				p.SetEndpoints(addresses...)
				for i, h := range tc.history {
					for _, c := range h {
						switch c {
						case '.':
							time.Sleep(time.Second)
							p.sweepIfDue()
						default:
							p.report(p.Endpoints()[i], c == 'o')
						}
					}
				}
				got := ""
				for _, e := range p.endpoints.Load().usable {
					got += e.address
				}
				if got != tc.want {
					t.Errorf("used are %q, want %q", got, tc.want)
				}
			})
		})
	}
}

// TestOutlierCounts checks which ends of a request are failures of its endpoint.
func TestOutlierCounts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc // nil: nothing listens
		send    func(p *Pool, r *http.Request) error
		failure bool
	}{
		{"200", func(http.ResponseWriter, *http.Request) {}, nil, false},
		{"404", http.NotFound, nil, false},
		{"429", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, nil, false},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil, true},
		{"503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil, true},
		{"no connection", nil, nil, true},
		{"broken before the answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, true},
		{"broken in the answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("abc"))
			panic(http.ErrAbortHandler)
		}, nil, true},
		{"the client goes", hang, func(p *Pool, r *http.Request) error {
			ctx, cancel := context.WithCancel(r.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			_, err := p.RoundTrip(r.WithContext(ctx))
			return err
		}, false},
		{"timeout", hang, func(p *Pool, r *http.Request) error {
			ctx, cancel := context.WithTimeoutCause(r.Context(), 20*time.Millisecond, errDuration)
			defer cancel()
			_, err := p.RoundTrip(r.WithContext(ctx))
			return err
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := refused(t)
			if tc.handler != nil {
				addr = serve(t, tc.handler)
			}
			p := newPool(t, Options{Outlier: &Outlier{Consecutive: 100, MaxPercent: 100}}, addr)
			if tc.send == nil {
				tc.send = func(p *Pool, r *http.Request) error {
					resp, err := p.RoundTrip(r)
					if err == nil {
						_, err = bufio.NewReader(resp.Body).ReadString(0)
						return errors.Join(err, resp.Body.Close())
					}
					return err
				}
			}
			_ = tc.send(p, request(t, "POST", "http://x/", strings.NewReader("{}"))) // the outcome is what counts
			if got := p.Endpoints()[0].failures.Load() > 0; got != tc.failure {
				t.Errorf("counted as a failure: %t, want %t", got, tc.failure)
			}
		})
	}
}

// TestOutlierHeals sends real requests to two servers, of which one fails for a time.
func TestOutlierHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		dial := func(_ context.Context, _, address string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer func() { _ = there.Close() }()
				r, err := http.ReadRequest(bufio.NewReader(there))
				if err != nil {
					return
				}
				status := 200
				if broken && address == "bad:80" {
					status = 503
				}
				_, _ = fmt.Fprintf(there, "HTTP/1.1 %d x\r\nX-From: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, address)
				_ = r.Body.Close()
			}()
			return here, nil
		}
		p := NewPool(Options{
			Dial: dial, Strategy: RoundRobin{}, Logger: slog.New(slog.DiscardHandler),
			Outlier: &Outlier{Consecutive: 2, ConsecutivePercent: 100, MaxPercent: 10},
		}, "bad:80", "good:80")
		defer p.Close()
		ask := func(n int) map[string]int {
			from := map[string]int{}
			for range n {
				r, err := http.NewRequestWithContext(t.Context(), "GET", "http://x/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := p.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				from[fmt.Sprint(resp.Header.Get("X-From"), " ", resp.StatusCode)]++
			}
			return from
		}
		if got := ask(20); got["bad:80 503"] != 2 || got["good:80 200"] != 18 {
			t.Errorf("answers %v, want two failures and no more", got)
		}
		broken = false
		time.Sleep(41 * time.Second)
		if got := ask(20); got["bad:80 200"] != 10 {
			t.Errorf("answers %v, want both alike after the ejection", got)
		}
	})
}

// hang answers nothing until the client goes, which the server sees once the body is read.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}
