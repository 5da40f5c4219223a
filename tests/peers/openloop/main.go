// SPDX-License-Identifier: Apache-2.0

// openloop sends requests when they are due, whatever became of those before, and says what came of each.
//
//	openloop -url http://198.19.0.1/x -n 1000 -rate 200 [-poisson]   200 a second on average
//	openloop -url http://198.19.0.1/x -n 1000 -c 8                   or each as soon as one of 8 clients is free
//
// One line per request: ms from the start to its sending, ms from that to its end, the status, x-mesh-reason or "-".
// In place of a status: "truncated" for a response that broke off, "reset" or "closed" without one, "connect".
// "{i}" in the URL becomes the request's number, and {A|B|C} takes A, B and C in turn.  Connections are kept, and
// nothing is ever sent twice: this is no net/http client but a writer of bytes, with net/http's reader of responses.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	target  = flag.String("url", "", "where to send requests")
	method  = flag.String("method", "GET", "request method")
	body    = flag.Int("body", 0, "bytes of request body")
	minor   = flag.Int("minor", 1, "HTTP/1.x")
	n       = flag.Int64("n", 100, "requests in total")
	rate    = flag.Float64("rate", 0, "requests per second; 0: as fast as the clients can")
	poisson = flag.Bool("poisson", false, "at random times, not at equal distances")
	c       = flag.Int("c", 1, "clients, without a rate")
	seed    = flag.Int64("seed", 1, "of the random times")
	timeout = flag.Duration("timeout", 30*time.Second, "for one request")
)

type client struct {
	conn   net.Conn
	reader *bufio.Reader
}

type pool struct {
	sync.Mutex
	address string
	idle    []*client
}

func (p *pool) take() (*client, error) {
	p.Lock()
	if count := len(p.idle); count > 0 {
		one := p.idle[count-1]
		p.idle = p.idle[:count-1]
		p.Unlock()
		return one, nil
	}
	p.Unlock()
	conn, err := net.DialTimeout("tcp", p.address, *timeout)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReader(conn)}, nil
}

func (p *pool) keep(one *client) {
	p.Lock()
	defer p.Unlock()
	p.idle = append(p.idle, one)
}

var turns = regexp.MustCompile(`\{([^{}]*)\}`)

// numbered is the text for request i.
func numbered(text string, i int64) string {
	return turns.ReplaceAllStringFunc(text, func(found string) string {
		if found == "{i}" {
			return strconv.FormatInt(i, 10)
		}
		choices := strings.Split(found[1:len(found)-1], "|")
		return choices[i%int64(len(choices))]
	})
}

func request(host, path string) []byte {
	text := fmt.Sprintf("%s %s HTTP/1.%d\r\nHost: %s\r\n", *method, path, *minor, host)
	if *body > 0 {
		text += fmt.Sprintf("Content-Length: %d\r\n", *body)
	}
	return []byte(text + "\r\n" + strings.Repeat("x", *body))
}

// exchange is (outcome, reason, whether the connection can serve again).
func exchange(one *client, data []byte) (string, string, bool) {
	_ = one.conn.SetDeadline(time.Now().Add(*timeout))
	if _, err := one.conn.Write(data); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return "unsent", "-", false
	}
	answer, err := http.ReadResponse(one.reader, &http.Request{Method: *method})
	if err != nil {
		return broken(err), "-", false
	}
	reason := answer.Header.Get("X-Mesh-Reason")
	if reason == "" {
		reason = "-"
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err != nil {
		return "truncated", reason, false
	}
	return strconv.Itoa(answer.StatusCode), reason, !answer.Close
}

func broken(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silent"
	}
	return "malformed"
}

func once(p *pool, data []byte) (string, string) {
	one, err := p.take()
	if err != nil {
		return "connect", "-"
	}
	outcome, reason, again := exchange(one, data)
	if again {
		p.keep(one)
	} else {
		one.conn.Close()
	}
	return outcome, reason
}

func main() {
	flag.Parse()
	parsed, err := url.Parse(strings.ReplaceAll(strings.ReplaceAll(*target, "{", "%7B"), "}", "%7D"))
	if err != nil {
		log.Fatalf("openloop: -url: %v", err)
	}
	address := parsed.Host
	if parsed.Port() == "" {
		address += ":80"
	}
	_, rest, _ := strings.Cut(*target, "://")
	slash := strings.Index(rest, "/")
	if slash < 0 {
		log.Fatalf("openloop: -url has no path: %s", *target)
	}
	path := rest[slash:]
	rows := make([]string, *n)
	all := &pool{address: address}
	start := time.Now()
	send := func(i int64) {
		data := request(parsed.Host, numbered(path, i))
		sent := time.Now()
		outcome, reason := once(all, data)
		took := time.Since(sent)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		rows[i] = fmt.Sprintf("%.3f %.3f %s %s", ms(sent.Sub(start)), ms(took), outcome, reason)
	}
	if *rate > 0 {
		open(start, send)
	} else {
		closed(send)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, row := range rows {
		fmt.Fprintln(out, row)
	}
}

func open(start time.Time, send func(int64)) {
	var group sync.WaitGroup
	dice := rand.New(rand.NewSource(*seed))
	due := 0.0
	for i := int64(0); i < *n; i++ {
		time.Sleep(time.Until(start.Add(time.Duration(due * float64(time.Second)))))
		group.Add(1)
		go func(i int64) {
			defer group.Done()
			send(i)
		}(i)
		if *poisson {
			due += dice.ExpFloat64() / *rate
		} else {
			due += 1 / *rate
		}
	}
	group.Wait()
}

func closed(send func(int64)) {
	var group sync.WaitGroup
	var next atomic.Int64
	for j := 0; j < *c; j++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := next.Add(1) - 1; i < *n; i = next.Add(1) - 1 {
				send(i)
			}
		}()
	}
	group.Wait()
}
