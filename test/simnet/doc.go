// Package simnet is a small internet in a network namespace that owns every
// address: DNS, web servers with certificates of a CA made at start, servers that
// misbehave. The demo and the tests start one and reach it only through sockets
// that it serves; nothing of it touches the machine's own network. It must never
// stand in for a check: what it serves is as true or false as its zone says.
package simnet
