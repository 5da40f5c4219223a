// SPDX-License-Identifier: Apache-2.0

// server is a Go net/http keep-alive peer.  It prints its address as the first line of stdout and answers:
//
//	any path     what it received, as JSON (method, target, host, headers, length and sha256 of the body, trailers)
//	/bytes?n=N   N bytes with a Content-Length; with &chunked=1 without one
//	/trailers    a chunked body and the trailer X-Sum
//	/hints       103 Early Hints, then 200
//
// -idle closes a connection after that much idleness, -requests after that many requests (as an impatient
// upstream does: without announcing it when -silent is given).  SIGTERM prints the totals as JSON and ends it.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

type counterKey struct{}

type totals struct {
	Connections atomic.Int64
	Requests    atomic.Int64
}

type seen struct {
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Host     string      `json:"host"`
	Headers  http.Header `json:"headers"`
	Length   int64       `json:"length"`
	SHA256   string      `json:"sha256"`
	Trailers http.Header `json:"trailers"`
}

var (
	listen   = flag.String("listen", "127.0.0.1:0", "address to listen on")
	idle     = flag.Duration("idle", 75*time.Second, "close a connection after this much idleness")
	requests = flag.Int64("requests", 0, "close a connection after this many requests (0: never)")
	silent   = flag.Bool("silent", false, "close without a Connection: close on the last response")
	delay    = flag.Duration("delay", 0, "wait this long before each answer")
	total    totals
)

func echo(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	length, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the request did not end well: nor does its answer
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(seen{
		r.Method, r.RequestURI, r.Host, r.Header, length, hex.EncodeToString(sum.Sum(nil)), r.Trailer,
	})
}

func sized(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(i)
	}
	for n > 0 {
		size := int64(len(block))
		if n < size {
			size = n
		}
		if _, err := w.Write(block[:size]); err != nil {
			return
		}
		n -= size
	}
}

func trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	_, _ = io.WriteString(w, "hello")
	w.(http.Flusher).Flush()
	w.Header().Set("X-Sum", "532")
}

func hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	_, _ = io.WriteString(w, "hello")
}

// limit counts a connection's requests and closes it after the last one that is allowed.
func limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		total.Requests.Add(1)
		time.Sleep(*delay)
		connection := r.Context().Value(counterKey{}).(*connectionState)
		if *requests > 0 && connection.requests.Add(1) >= *requests {
			if *silent {
				defer time.AfterFunc(time.Millisecond, func() { connection.conn.Close() })
			} else {
				w.Header().Set("Connection", "close")
			}
		}
		next.ServeHTTP(w, r)
	})
}

type connectionState struct {
	conn     net.Conn
	requests atomic.Int64
}

func main() {
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes", sized)
	mux.HandleFunc("/trailers", trailers)
	mux.HandleFunc("/hints", hints)
	mux.HandleFunc("/", echo)
	server := &http.Server{
		// ServeMux would answer unclean paths with a redirect: this peer reports what it received instead.
		Handler: limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/bytes", "/trailers", "/hints":
				mux.ServeHTTP(w, r)
			default:
				echo(w, r)
			}
		})),
		IdleTimeout: *idle,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			total.Connections.Add(1)
			return context.WithValue(ctx, counterKey{}, &connectionState{conn: c})
		},
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("server: %v", err)
	}
	fmt.Println(listener.Addr())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatalf("server: %v", err)
		}
	}()
	<-stop
	_ = server.Close()
	fmt.Printf("{\"connections\": %d, \"requests\": %d}\n", total.Connections.Load(), total.Requests.Load())
}
