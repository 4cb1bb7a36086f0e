//go:build !linux

package main

// initSandbox does nothing: there are no sandboxes here.
func initSandbox() {}
