//go:build !linux

package cli

// initSandbox does nothing: here there are no sandboxes.
func initSandbox() {}
