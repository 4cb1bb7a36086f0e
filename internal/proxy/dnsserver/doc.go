// Package dnsserver answers every DNS question of one workload out of its own
// head: a stable synthetic address for each name, and nothing for the rest.
// The proxy calls it with what its capture received and looks synthetic
// addresses up in its Table. It must never ask anybody: no question of a
// workload leaves.
package dnsserver
