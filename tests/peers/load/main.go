// SPDX-License-Identifier: Apache-2.0

// load sends requests for a time and prints, as one line of JSON, what came of them and how long answers took.
//
//	load -url http://127.0.0.1:8080/ -for 5s -rate 200                      200 a second, whatever became of the last
//	load -url http://127.0.0.1:8080/ -for 5s -c 5000 -body 65536 -every 2s  5000 clients, each sending at most once in 2 s
//
// With -rate a request is sent when its time has come, on a connection of its own if the others are in use, so a slow
// answer does not hold back the next request (open loop).  Times are from the sending to the end of the answer.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	url     = flag.String("url", "", "where to send requests")
	method  = flag.String("method", "GET", "request method")
	host    = flag.String("host", "", "Host field, if not the URL's")
	body    = flag.Int("body", 0, "bytes of request body")
	headers = flag.Int("headers", 0, "request fields beyond the usual ones, with values that were not there before")
	c       = flag.Int("c", 1, "requests at a time, without -rate")
	rate    = flag.Float64("rate", 0, "requests a second; 0: as fast as -c at a time are answered")
	length  = flag.Duration("for", time.Second, "how long to send")
	timeout = flag.Duration("timeout", 10*time.Second, "for one request")
	every   = flag.Duration("every", 0, "from the start of one request to that of the next, for each of -c")
)

type report struct {
	Sent    int64            `json:"sent"`
	Codes   map[string]int64 `json:"codes"`
	Reasons map[string]int64 `json:"reasons"` // x-mesh-reason
	Errors  map[string]int64 `json:"errors"`
	P50     int64            `json:"p50_us"` // of complete answers with status 200
	P90     int64            `json:"p90_us"`
	P99     int64            `json:"p99_us"`
	Max     int64            `json:"max_us"`
	Seconds float64          `json:"seconds"`
}

type tally struct {
	sync.Mutex
	report
	times []int64
}

func (t *tally) add(code int, reason string, took time.Duration, err error) {
	t.Lock()
	defer t.Unlock()
	t.Sent++
	if err != nil {
		words := strings.Split(err.Error(), ": ")
		t.Errors[words[len(words)-1]]++
		return
	}
	t.Codes[strconv.Itoa(code)]++
	if reason != "" {
		t.Reasons[reason]++
	}
	if code == http.StatusOK {
		t.times = append(t.times, took.Microseconds())
	}
}

func (t *tally) percentile(share float64) int64 {
	if len(t.times) == 0 {
		return 0
	}
	return t.times[int(share*float64(len(t.times)-1))]
}

func (t *tally) finish(began time.Time) {
	sort.Slice(t.times, func(i, j int) bool { return t.times[i] < t.times[j] })
	t.P50, t.P90, t.P99, t.Max = t.percentile(0.5), t.percentile(0.9), t.percentile(0.99), t.percentile(1)
	t.Seconds = time.Since(began).Seconds()
}

type sender struct {
	client  *http.Client
	payload string
	names   []string // of the fields beyond the usual ones
	number  atomic.Int64
	results *tally
}

func newSender(results *tally) *sender {
	transport := &http.Transport{
		MaxIdleConnsPerHost: *c + 1000, MaxIdleConns: 0, DisableCompression: true,
	}
	client := &http.Client{Transport: transport, Timeout: *timeout}
	s := &sender{client: client, payload: strings.Repeat("x", *body), results: results}
	for i := 0; i < *headers; i++ {
		s.names = append(s.names, fmt.Sprintf("X-Field-%d", i))
	}
	return s
}

func (s *sender) request() *http.Request {
	var payload io.Reader
	if *body > 0 {
		payload = strings.NewReader(s.payload)
	}
	r, err := http.NewRequest(*method, *url, payload)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	value := []string{"value-" + strconv.FormatInt(s.number.Add(1), 10)}
	for _, name := range s.names {
		r.Header[name] = value
	}
	if *host != "" {
		r.Host = *host
	}
	return r
}

func (s *sender) once() {
	r := s.request()
	began := time.Now()
	answer, err := s.client.Do(r)
	if err != nil {
		s.results.add(0, "", 0, err)
		return
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	s.results.add(answer.StatusCode, answer.Header.Get("x-mesh-reason"), time.Since(began), err)
}

// open sends at a fixed rate.
func (s *sender) open(until time.Time) {
	var group sync.WaitGroup
	gap := time.Duration(float64(time.Second) / *rate)
	for next := time.Now(); next.Before(until); next = next.Add(gap) {
		time.Sleep(time.Until(next))
		group.Add(1)
		go func() {
			defer group.Done()
			s.once()
		}()
	}
	group.Wait()
}

func wait(ctx context.Context, until time.Time) {
	select {
	case <-time.After(time.Until(until)):
	case <-ctx.Done():
	}
}

// closed keeps -c clients going; with -every they all send at the same time.
func (s *sender) closed(until time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	var group sync.WaitGroup
	for i := 0; i < *c; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for next := time.Now(); ctx.Err() == nil; wait(ctx, next) {
				next = next.Add(*every)
				s.once()
			}
		}()
	}
	group.Wait()
}

func main() {
	flag.Parse()
	results := &tally{report: report{Codes: map[string]int64{}, Reasons: map[string]int64{}, Errors: map[string]int64{}}}
	s := newSender(results)
	began := time.Now()
	if *rate > 0 {
		s.open(began.Add(*length))
	} else {
		s.closed(began.Add(*length))
	}
	results.finish(began)
	if err := json.NewEncoder(os.Stdout).Encode(results.report); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
