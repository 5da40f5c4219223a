// SPDX-License-Identifier: Apache-2.0

// unsteady is a Go net/http server that misbehaves as it is asked to, and remembers what it saw.
//
//	/fail?share=0.3&status=503   that share of the requests gets the status, at random, the others 200; with
//	                             &after=2s only once so much time has passed since /reset, &only=X only of the
//	                             server with -name X; &retry-after=1 sends that
//	/break?share=1               that share ends with the connection, without an answer
//	/slow?ms=100                 answers after so long
//	/hang                        never answers
//	/trickle                     sends a response's head a byte at a time, every 20 ms, and never its end
//	/stall?how=length            a head, the beginning of a body, and no more: by length, chunked, or close
//	/seen                        what was seen since the last /reset, as JSON
//
// With id=X in the query, the times at which the requests of that name arrived are remembered, in ms of the epoch.  Any path may
// have a prefix of one segment that begins with "-", for routes to tell apart: /-free/slow.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "address to listen on")
	seed   = flag.Int64("seed", 1, "of what is left to chance")
	name   = flag.String("name", "", "of this server")
)

// seen is guarded by its mutex; Abandoned counts requests whose connection the client ended before the answer.
type seen struct {
	sync.Mutex
	began     time.Time
	dice      *rand.Rand
	Requests  map[string]int64   `json:"requests"` // by "METHOD /path"
	Abandoned int64              `json:"abandoned"`
	Arrivals  map[string][]int64 `json:"arrivals"`
	Began     int64              `json:"began"` // ms of the epoch, of the reset
	Last      int64              `json:"last"`  // ms since then, of the last request but those for /seen
}

var all = seen{dice: rand.New(rand.NewSource(1))}

func (s *seen) reset() {
	s.Lock()
	defer s.Unlock()
	s.began = time.Now()
	s.Requests, s.Arrivals = map[string]int64{}, map[string][]int64{}
	s.Abandoned, s.Began, s.Last = 0, s.began.UnixMilli(), 0
}

func (s *seen) note(r *http.Request, path string) time.Duration {
	s.Lock()
	defer s.Unlock()
	since := time.Since(s.began)
	s.Last = since.Milliseconds()
	s.Requests[r.Method+" "+path]++
	if id := r.URL.Query().Get("id"); id != "" {
		s.Arrivals[id] = append(s.Arrivals[id], time.Now().UnixMilli())
	}
	return since
}

func (s *seen) abandon() {
	s.Lock()
	defer s.Unlock()
	s.Abandoned++
}

func (s *seen) hits(share float64) bool {
	s.Lock()
	defer s.Unlock()
	return s.dice.Float64() < share
}

func (s *seen) write(w io.Writer) {
	s.Lock()
	defer s.Unlock()
	_ = json.NewEncoder(w).Encode(s)
}

func number(r *http.Request, name string, without float64) float64 {
	value, err := strconv.ParseFloat(r.URL.Query().Get(name), 64)
	if err != nil {
		return without
	}
	return value
}

func fail(w http.ResponseWriter, r *http.Request, since time.Duration) {
	after, _ := time.ParseDuration(r.URL.Query().Get("after"))
	only := r.URL.Query().Get("only")
	if since < after || (only != "" && only != *name) || !all.hits(number(r, "share", 1)) {
		_, _ = io.WriteString(w, "ok")
		return
	}
	if wait := r.URL.Query().Get("retry-after"); wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	w.WriteHeader(int(number(r, "status", 503)))
	_, _ = io.WriteString(w, "no")
}

// untilGone waits until the client has ended its connection.
func untilGone(r *http.Request) {
	select {
	case <-r.Context().Done():
		all.abandon()
	case <-time.After(time.Minute):
	}
}

// raw sends pieces at an interval until the client ends the connection; after the last one it only waits.
func raw(w http.ResponseWriter, interval time.Duration, next func() string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, conn) // its end, in good order or not
		all.abandon()
		close(gone)
	}()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			return
		case <-ticker.C:
			if piece := next(); piece != "" {
				_, _ = io.WriteString(conn, piece)
			}
		}
	}
}

func trickle(w http.ResponseWriter) {
	head, at := "HTTP/1.1 200 OK\r\nX-Long: ", 0
	raw(w, 20*time.Millisecond, func() string {
		at++
		if at <= len(head) {
			return head[at-1 : at]
		}
		return "x"
	})
}

var stalls = map[string]string{
	"length":  "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning",
	"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n",
	"close":   "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbeginning",
}

func stall(w http.ResponseWriter, how string) {
	rest := stalls[how]
	raw(w, time.Millisecond, func() string {
		piece := rest
		rest = ""
		return piece
	})
}

func serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/-") {
		_, rest, _ := strings.Cut(path[1:], "/")
		path = "/" + rest
	}
	switch path {
	case "/seen":
		all.write(w)
		return
	case "/reset":
		all.reset()
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	since := all.note(r, path)
	switch path {
	case "/fail":
		fail(w, r, since)
	case "/break":
		if all.hits(number(r, "share", 1)) {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	case "/slow":
		time.Sleep(time.Duration(number(r, "ms", 0) * float64(time.Millisecond)))
		_, _ = io.WriteString(w, "ok")
	case "/hang":
		untilGone(r)
	case "/trickle":
		trickle(w)
	case "/stall":
		stall(w, r.URL.Query().Get("how"))
	default:
		http.NotFound(w, r)
	}
}

func main() {
	flag.Parse()
	all.dice = rand.New(rand.NewSource(*seed))
	all.reset()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", *listen)
	if err != nil {
		log.Fatalf("unsteady: %v", err)
	}
	fmt.Println(listener.Addr())
	log.SetOutput(io.Discard) // of the server: connections that end are what this is about
	_ = http.Serve(listener, http.HandlerFunc(serve))
}
