// SPDX-License-Identifier: Apache-2.0

// client is a Go net/http keep-alive peer: it sends a fixed number of requests and prints, as one line of JSON,
// how many were answered with which code and which errors the others met.
//
//	client -url http://127.0.0.1:8080/x -method POST -body 100 -n 1000 -c 4 -pause 5ms
//
// -pauses gives several pauses taken in turn, so that a run crosses an upstream's idle timeout in different places.
// A POST is never retried by net/http once a byte of it was written; GETs are, so -no-retry sends each GET with a
// body that cannot be read twice, and what is counted is what the first attempt met.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	url       = flag.String("url", "", "where to send requests")
	method    = flag.String("method", "GET", "request method")
	host      = flag.String("host", "", "Host field, if not the URL's")
	body      = flag.Int("body", 0, "bytes of request body")
	chunked   = flag.Bool("chunked", false, "send the body without a length")
	n         = flag.Int64("n", 100, "requests in total")
	c         = flag.Int("c", 1, "connections")
	pauses    = flag.String("pauses", "", "pauses after each request, taken in turn: 0s,990ms,1s")
	timeout   = flag.Duration("timeout", 10*time.Second, "for one request")
	keepAlive = flag.Bool("keep-alive", true, "reuse connections")
	noRetry   = flag.Bool("no-retry", false, "see the first attempt's fate also for requests net/http would repeat")
)

type report struct {
	OK     int64            `json:"ok"` // answers of any status that were complete
	Failed int64            `json:"failed"`
	Codes  map[string]int64 `json:"codes"`
	Errors map[string]int64 `json:"errors"`
	SHA256 string           `json:"sha256"` // of the last complete answer's body
	Second float64          `json:"seconds"`
}

type tally struct {
	sync.Mutex
	report
}

func (t *tally) add(code int, sum string, err error) {
	t.Lock()
	defer t.Unlock()
	if err != nil {
		t.Failed++
		t.Errors[short(err)]++
		return
	}
	t.OK++
	t.Codes[strconv.Itoa(code)]++
	t.SHA256 = sum
}

// short drops the addresses from an error, so that equal faults count together.
func short(err error) string {
	words := strings.Split(err.Error(), ": ")
	return words[len(words)-1]
}

// onceReader can't be rewound, which keeps net/http from repeating the request.
type onceReader struct{ io.Reader }

func payload() io.Reader {
	data := strings.NewReader(strings.Repeat("x", *body))
	if *chunked || (*noRetry && *body > 0) {
		return onceReader{data}
	}
	if *body == 0 {
		return nil
	}
	return data
}

func once(client *http.Client) (int, string, error) {
	r, err := http.NewRequest(*method, *url, payload())
	if err != nil {
		return 0, "", err
	}
	if *body > 0 && !*chunked {
		r.ContentLength = int64(*body)
	}
	if *host != "" {
		r.Host = *host
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, answer.Body)
	return answer.StatusCode, hex.EncodeToString(sum.Sum(nil)), err
}

func parsePauses(text string) []time.Duration {
	result := []time.Duration{}
	for _, word := range strings.Split(text, ",") {
		if word == "" {
			continue
		}
		pause, err := time.ParseDuration(word)
		if err != nil {
			log.Fatalf("client: -pauses: %v", err)
		}
		result = append(result, pause)
	}
	return result
}

func main() {
	flag.Parse()
	waits := parsePauses(*pauses)
	transport := &http.Transport{MaxIdleConnsPerHost: *c, DisableKeepAlives: !*keepAlive, DisableCompression: true}
	client := &http.Client{
		Transport:     transport,
		Timeout:       *timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	results := &tally{report: report{Codes: map[string]int64{}, Errors: map[string]int64{}}}
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for i := 0; i < *c; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for turn := next.Add(1); turn <= *n; turn = next.Add(1) {
				results.add(once(client))
				if len(waits) > 0 {
					time.Sleep(waits[turn%int64(len(waits))])
				}
			}
		}()
	}
	group.Wait()
	results.Second = time.Since(start).Seconds()
	if err := json.NewEncoder(os.Stdout).Encode(results.report); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
