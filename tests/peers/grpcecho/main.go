// SPDX-License-Identifier: Apache-2.0

//go:build go1.24

// grpcecho is a gRPC server on net/http's unencrypted HTTP/2: it answers every unary call with one message, a JSON
// object of what it received (pod, namespace, method, path, host, headers as [name, value] pairs) and status 0.
//
//	grpcecho -listen :7070 -pod echo-v1 -namespace shop
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

var (
	listen    = flag.String("listen", "127.0.0.1:0", "address to listen on")
	pod       = flag.String("pod", "", "the pod's name, for answers")
	namespace = flag.String("namespace", "", "the pod's namespace, for answers")
)

type seen struct {
	Pod       string      `json:"pod"`
	Namespace string      `json:"namespace"`
	Method    string      `json:"method"`
	Path      string      `json:"path"`
	Host      string      `json:"host"`
	Headers   [][2]string `json:"headers"`
}

func echo(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		http.Error(w, "not a gRPC call", http.StatusUnsupportedMediaType)
		return
	}
	headers := [][2]string{}
	for name, values := range r.Header {
		for _, value := range values {
			headers = append(headers, [2]string{name, value})
		}
	}
	message, err := json.Marshal(seen{*pod, *namespace, r.Method, r.RequestURI, r.Host, headers})
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/grpc+json")
	prefix := make([]byte, 5) // not compressed, length of the message
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)))
	_, _ = w.Write(append(prefix, message...))
	w.(http.Flusher).Flush() // without a length, so that there may be trailers
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

func main() {
	flag.Parse()
	server := &http.Server{Handler: http.HandlerFunc(echo), Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("grpcecho: %v", err)
	}
	fmt.Println(listener.Addr())
	log.Fatalf("grpcecho: %v", server.Serve(listener))
}
