// Package dnsserver answers the DNS questions of one workload: a stable synthetic
// address for each name, and of names that a rule allows the SRV and TXT records that
// our own DNS has. The proxy calls it with what its capture received and looks
// synthetic addresses up in its Table. It must never send a question of a workload on,
// nor have our own DNS asked about a name that no rule allows.
package dnsserver
