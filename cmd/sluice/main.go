// Command sluice is the command line of Sluice, and `sluice run`: a command in a
// sandbox whose only way out is a proxy. On other systems than Linux it only speaks
// to servers.
package main

import (
	"context"
	"os"

	"sluice.dev/sluice/internal/cli"
)

func main() {
	initSandbox()
	os.Exit(cli.Execute(context.Background()))
}
