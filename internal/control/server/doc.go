// Package server assembles the control plane: the store of rules, the registry
// of workloads, compile and push, and the /sluice/ endpoints beside the rules on
// api.sock. cmd/sluice-server calls it, and the tests that need a whole server.
// It must never hold rules or workloads of its own: it only joins rooms.
package server
