// SPDX-License-Identifier: Apache-2.0

// gauge is an HTTP/1 server that holds each request for a while, and counts how many it has at once.
//
//	gauge -listen :8080 -control /tmp/gauge.sock
//
// What it does is set over the control socket (HTTP, too):
//
//	PUT /set?hold=100ms&status=503&every=2   every second answer (0: none) is a 503, the others are 200;
//	                                         hold=forever: until /release
//	PUT /release                             whatever is held now is answered
//	PUT /reset                               forget peaks, the area and the arrivals
//	GET /state                               see type state
//	GET /arrivals                            [when (ns since 1970), status], one of each request
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	forever     = 24 * time.Hour
	maxArrivals = 1 << 20
)

var (
	listen  = flag.String("listen", "127.0.0.1:0", "address to listen on")
	control = flag.String("control", "", "path of the control socket")
)

// state is what is counted; area is the integral of InFlight over time.
type state struct {
	InFlight    int     `json:"in_flight"`
	Peak        int     `json:"peak"`
	Connections int     `json:"connections"`
	Arrived     int     `json:"arrived"`
	Abandoned   int     `json:"abandoned"` // their client left before the answer
	Area        float64 `json:"area"`
	Seconds     float64 `json:"seconds"` // since /reset
}

type gauge struct {
	sync.Mutex
	state
	began, changed time.Time
	hold           time.Duration
	status, every  int
	released       chan struct{}
	arrivals       [][2]int64
}

func newGauge() *gauge {
	g := &gauge{status: http.StatusOK, released: make(chan struct{})}
	g.reset()
	return g
}

func (g *gauge) reset() {
	g.began = time.Now()
	g.changed = g.began
	g.state = state{InFlight: g.InFlight, Peak: g.InFlight, Connections: g.Connections}
	g.arrivals = nil
}

// add counts a request that comes (1) or goes (-1).
func (g *gauge) add(count int) {
	now := time.Now()
	g.Area += float64(g.InFlight) * now.Sub(g.changed).Seconds()
	g.changed = now
	g.InFlight += count
	if g.InFlight > g.Peak {
		g.Peak = g.InFlight
	}
}

func (g *gauge) enter() (int, time.Duration, chan struct{}) {
	g.Lock()
	defer g.Unlock()
	g.add(1)
	g.Arrived++
	status := http.StatusOK
	if g.every > 0 && g.Arrived%g.every == 0 {
		status = g.status
	}
	if len(g.arrivals) < maxArrivals {
		g.arrivals = append(g.arrivals, [2]int64{time.Now().UnixNano(), int64(status)})
	}
	return status, g.hold, g.released
}

func (g *gauge) leave(answered bool) {
	g.Lock()
	defer g.Unlock()
	g.add(-1)
	if !answered {
		g.Abandoned++
	}
}

func (g *gauge) serve(w http.ResponseWriter, r *http.Request) {
	status, hold, released := g.enter()
	select {
	case <-r.Context().Done():
		g.leave(false)
		return
	case <-released:
	case <-time.After(hold):
	}
	g.leave(true) // before the answer: who got it may send the next request at once
	w.WriteHeader(status)
	_, _ = w.Write([]byte("held\n"))
}

func (g *gauge) connection(_ net.Conn, now http.ConnState) {
	g.Lock()
	defer g.Unlock()
	switch now {
	case http.StateNew:
		g.Connections++
	case http.StateClosed, http.StateHijacked:
		g.Connections--
	}
}

func (g *gauge) set(query map[string][]string) error {
	for name, values := range query {
		var err error
		switch name {
		case "hold":
			if values[0] == "forever" {
				g.hold = forever
			} else {
				g.hold, err = time.ParseDuration(values[0])
			}
		case "status":
			g.status, err = strconv.Atoi(values[0])
		case "every":
			g.every, err = strconv.Atoi(values[0])
		default:
			err = fmt.Errorf("unknown: %s", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *gauge) control(w http.ResponseWriter, r *http.Request) {
	g.Lock()
	defer g.Unlock()
	var answer any = g.state
	switch r.URL.Path {
	case "/set":
		if err := g.set(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case "/release":
		close(g.released)
		g.released = make(chan struct{})
	case "/reset":
		g.reset()
	case "/state":
		g.add(0)
		g.Seconds = time.Since(g.began).Seconds()
		answer = g.state
	case "/arrivals":
		answer = g.arrivals
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func main() {
	flag.Parse()
	g := newGauge()
	_ = os.Remove(*control)
	commands, err := net.Listen("unix", *control)
	if err != nil {
		log.Fatalf("gauge: %v", err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("gauge: %v", err)
	}
	go func() { log.Fatal(http.Serve(commands, http.HandlerFunc(g.control))) }()
	server := &http.Server{Handler: http.HandlerFunc(g.serve), ConnState: g.connection}
	log.Fatal(server.Serve(listener))
}
