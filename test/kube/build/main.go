// Command build builds the binaries of Kubernetes that the tests beside start, where they
// are not there yet, and prints their folder. make test-kube runs it in test/kube.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice.dev/sluice/test/kube/binaries"
)

func main() {
	check := flag.Bool("check", false, "build nothing; exit with 3 where a binary is missing")
	node := flag.Bool("node", false, "those of a node too, which make demo-kube and the article need")
	flag.Parse()
	var more []string
	if *node {
		more = binaries.Node
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := binaries.Find(".", more...)
	if err != nil && !*check {
		dir, err = binaries.Build(ctx, ".", os.Stderr, more...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if *check {
			os.Exit(3)
		}
		os.Exit(1)
	}
	fmt.Println(dir)
}
