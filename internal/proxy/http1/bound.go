package http1

import (
	"slices"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// NTLM and Negotiate sign in a connection, not a request: what follows on it is the
// user's, whoever sends it, and the sign-in takes several requests on one connection
// (RFC 4559, section 6). So an upstream connection on which that began, or was asked
// for, belongs to this client connection from then on: it serves its later requests to
// the same upstream, ends with it, and never goes back to where others take theirs.

// signsIn says whether one of the credentials or challenges in a field is of such a
// scheme. It takes a comma inside a quoted string for one between two, which can only
// keep a connection apart for nothing.
func signsIn(value []byte) bool {
	for more := true; more; {
		var element []byte
		element, value, more = nextInList(value)
		scheme := 0
		for scheme < len(element) && class[element[scheme]]&tokenByte != 0 {
			scheme++
		}
		if equalFold(element[:scheme], "ntlm") || equalFold(element[:scheme], "negotiate") {
			return true
		}
	}
	return false
}

// addsSignIn says so of what a Director adds to a request.
func addsSignIn(fields []exchange.Field) bool {
	for i := range fields {
		if fields[i].Name == "authorization" && signsIn([]byte(fields[i].Value)) {
			return true
		}
	}
	return false
}

// keep holds back a connection to an upstream for this client alone.
func (d *conn) keep(to exchange.Upstream, u exchange.Stream) {
	if len(d.bound) == maxBound {
		d.unbind(0).Release(false)
	}
	d.bound, d.kept = append(d.bound, exchange.Chosen(to)), append(d.kept, u)
	u.Keep()
}

// takeBound returns the connection that is held for this client, if it can still be
// used; else nil.
func (d *conn) takeBound(to exchange.Upstream) exchange.Stream {
	if len(d.bound) == 0 {
		return nil
	}
	i := slices.Index(d.bound, exchange.Chosen(to))
	if i < 0 {
		return nil
	}
	if u := d.unbind(i); u.Again() {
		return u
	}
	return nil
}

func (d *conn) unbind(i int) exchange.Stream {
	u := d.kept[i]
	d.bound, d.kept = slices.Delete(d.bound, i, i+1), slices.Delete(d.kept, i, i+1)
	return u
}

// endBound ends what is held for the client, with the client.
func (d *conn) endBound() {
	for len(d.bound) > 0 {
		d.unbind(0).Release(false)
	}
}
