//go:build !linux

package doctor

import (
	"context"
	"fmt"
	"runtime"
)

// Machine is what the kernel gives; of another one than Linux there is nothing to say.
type Machine struct{}

func (r *Report) examineMachine(context.Context) {
	r.Sandbox.Problem = NoNamespaces("a sandbox")
	r.Sandbox.Reason = "not-linux"
}

func (*Report) writeMachine(func(what, format string, arguments ...any)) {}

// NoNamespaces says why something cannot be here, and what to do.
func NoNamespaces(what string) string {
	return fmt.Sprintf("%s needs Linux namespaces, which %s does not have. Run it on a Linux machine; the commands that speak to a server work here with --server", what, runtime.GOOS)
}
