// Command attack tries to get out of `sluice run`, in every way that the table of
// package attack knows, and prints one line for each. It is one static binary.
package main

import (
	"os"

	"sluice.dev/sluice/test/attack"
)

func main() { os.Exit(attack.Main(os.Args[1:])) }
