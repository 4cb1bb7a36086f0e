// Package server assembles the control plane from a store of rules, a census of
// workloads, listeners and an authenticator of peers, and, with these, the server
// of one machine. cmd/sluice-server calls it, and the tests that need a whole
// server. It must never hold rules or workloads of its own.
package server
