// SPDX-License-Identifier: Apache-2.0

// reparse reads bytes that an upstream received and says what Go's net/http makes of them.
//
// stdin:  frames of a 4-byte big-endian length and that many bytes: one connection's worth
// stdout: one line of JSON per frame: {"requests": [...], "error": "..."}; error is empty when the bytes
// end exactly after the last request.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
)

type request struct {
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Host     string      `json:"host"`
	Headers  http.Header `json:"headers"` // canonical names, Latin-1 values; without Host, Content-Length, Transfer-Encoding
	Body     []byte      `json:"body"`    // base64
	Trailers http.Header `json:"trailers"`
	Close    bool        `json:"close"`
	Chunked  bool        `json:"chunked"`
}

type report struct {
	Requests []request `json:"requests"`
	Error    string    `json:"error"`
}

// latin1 makes every byte of the values one character, so that JSON keeps bytes that are not UTF-8.
func latin1(fields http.Header) http.Header {
	result := http.Header{}
	for name, values := range fields {
		for _, value := range values {
			runes := make([]rune, len(value))
			for i := 0; i < len(value); i++ {
				runes[i] = rune(value[i])
			}
			result[name] = append(result[name], string(runes))
		}
	}
	return result
}

func parse(raw []byte) report {
	result := report{Requests: []request{}}
	reader := bufio.NewReader(bytes.NewReader(raw))
	for {
		if _, err := reader.Peek(1); errors.Is(err, io.EOF) {
			return result
		}
		r, err := http.ReadRequest(reader)
		if err != nil {
			result.Error = err.Error()
			return result
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			result.Error = "body: " + err.Error()
			return result
		}
		result.Requests = append(result.Requests, request{
			Method: r.Method, Target: r.RequestURI, Host: r.Host, Headers: latin1(r.Header), Body: body,
			Trailers: latin1(r.Trailer), Close: r.Close, Chunked: len(r.TransferEncoding) > 0,
		})
	}
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatalf("reparse: frame length: %v", err)
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(in, raw); err != nil {
			log.Fatalf("reparse: frame of %d bytes: %v", size, err)
		}
		if err := out.Encode(parse(raw)); err != nil {
			log.Fatalf("reparse: %v", err)
		}
	}
}
