package main

import "sluice.dev/sluice/internal/sandbox"

// initSandbox does not return in the re-executed init of a sandbox.
func initSandbox() { sandbox.Init() }
