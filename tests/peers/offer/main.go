// SPDX-License-Identifier: Apache-2.0

// offer sends requests, whatever becomes of them, and prints one line for each when all are done:
//
//	sent received status reason         (ns since 1970; status 0 and the error where there was no answer)
//
//	offer -url http://198.19.0.1/ -c 500 -n 1                   500 clients, one request each
//	offer -url http://198.19.0.1/ -c 500 -for 10s -pause 20ms   500 clients, with a pause behind each request
//	offer -url http://198.19.0.1/ -c 16 -for 30s -rate 1000     open loop: 1000 a second, over 16 clients in turn
//
// Each client has connections of its own.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	url     = flag.String("url", "", "where to send requests")
	c       = flag.Int("c", 1, "clients")
	n       = flag.Int("n", 0, "requests of each client; 0: as many as fit into -for")
	length  = flag.Duration("for", time.Hour, "how long to send")
	rate    = flag.Float64("rate", 0, "requests a second of all clients together, open loop")
	pause   = flag.Duration("pause", 0, "after each answer or error, without -rate")
	timeout = flag.Duration("timeout", 30*time.Second, "for one request")
)

type row struct {
	sent, received int64
	status         int
	reason         string
}

type ledger struct {
	sync.Mutex
	rows []row
}

func (l *ledger) note(one row) {
	l.Lock()
	defer l.Unlock()
	l.rows = append(l.rows, one)
}

func word(err error) string {
	words := strings.Split(err.Error(), ": ")
	return strings.ReplaceAll(words[len(words)-1], " ", "-")
}

func ask(client *http.Client) row {
	sent := time.Now().UnixNano()
	answer, err := client.Get(*url)
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	if err != nil {
		return row{sent, time.Now().UnixNano(), 0, word(err)}
	}
	reason := answer.Header.Get("x-mesh-reason")
	if reason == "" {
		reason = "-"
	}
	return row{sent, time.Now().UnixNano(), answer.StatusCode, reason}
}

func clients() []*http.Client {
	made := make([]*http.Client, *c)
	for i := range made {
		transport := &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}
		made[i] = &http.Client{Transport: transport, Timeout: *timeout}
	}
	return made
}

func closedLoop(clients []*http.Client, until time.Time, results *ledger) {
	var group sync.WaitGroup
	for _, client := range clients {
		group.Add(1)
		go func(client *http.Client) {
			defer group.Done()
			for turn := 0; (*n == 0 || turn < *n) && time.Now().Before(until); turn++ {
				results.note(ask(client))
				time.Sleep(*pause)
			}
		}(client)
	}
	group.Wait()
}

func openLoop(clients []*http.Client, until time.Time, results *ledger) {
	var group sync.WaitGroup
	gap := time.Duration(float64(time.Second) / *rate)
	turn := 0
	for next := time.Now(); next.Before(until); next = next.Add(gap) {
		time.Sleep(time.Until(next))
		client := clients[turn%len(clients)]
		turn++
		group.Add(1)
		go func(client *http.Client) {
			defer group.Done()
			results.note(ask(client))
		}(client)
	}
	group.Wait()
}

func main() {
	flag.Parse()
	results := &ledger{}
	until := time.Now().Add(*length)
	if *rate > 0 {
		openLoop(clients(), until, results)
	} else {
		closedLoop(clients(), until, results)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, one := range results.rows {
		fmt.Fprintln(out, one.sent, one.received, one.status, one.reason)
	}
}
