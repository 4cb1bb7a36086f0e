// Package resolve finds out where an allowed name is and connects to it: real
// DNS, the guard against answers that must not be dialled, and happy eyeballs.
// The proxy's way out calls it after a verdict that allows. It must never dial
// an address that it did not check itself right before.
//
// It asks the DNS servers that it is given, or those of the machine's
// resolv.conf. It reads neither /etc/hosts nor nsswitch.conf, search lists nor
// options: a name in a rule means what DNS says.
package resolve
