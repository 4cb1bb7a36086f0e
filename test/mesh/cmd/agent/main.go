// Command agent is a workload of the end-to-end tests:
//
//	agent                       does what its standard input asks
//	agent creates SOCKET FILE N creates rules, and notes the acknowledged ones
package main

import (
	"fmt"
	"os"
	"strconv"

	"sluice.dev/sluice/test/mesh/agent"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 4 && args[0] == "creates" {
		n, err := strconv.ParseInt(args[3], 10, 64)
		if err != nil {
			return err
		}
		return agent.Creates(args[1], args[2], n)
	}
	return agent.Run(os.Stdin, os.Stdout)
}
