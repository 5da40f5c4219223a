// SPDX-License-Identifier: Apache-2.0

//go:build !go1.24

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "grpcecho: needs Go 1.24 or newer: older net/http has no unencrypted HTTP/2")
	os.Exit(1)
}
