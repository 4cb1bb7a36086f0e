// Command sluice is the command line of Sluice, and `sluice run`: a command in a
// sandbox whose only way out is a proxy.
package main

import (
	"context"
	"os"

	"sluice.dev/sluice/internal/cli"
	"sluice.dev/sluice/internal/sandbox"
)

func main() {
	sandbox.Init() // the re-executed init of a sandbox goes no further
	os.Exit(cli.Execute(context.Background()))
}
