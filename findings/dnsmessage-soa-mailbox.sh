#!/usr/bin/env bash
#
# A dot in the mailbox of an SOA makes x/net's dnsmessage give up on a reply.
#
# Versions: Go modules golang.org/x/net v0.62.0 and github.com/miekg/dns
#   v1.1.73; PyPI dnspython 2.9.2; npm dns-packet 5.6.1.
#
# Expected: RFC 1035 §8 puts a mailbox's part before the "@" into one label,
#   dots and all. Its own example is Action.domains@ISI.EDU, which a zone file
#   spells Action\.domains.ISI.EDU. Every answer "no such name" or "no such
#   data" carries the SOA of its zone, and a resolver wants only one number of
#   it: how long the answer may be kept (RFC 2308).
#
# Seen: miekg/dns, dnspython and dns-packet read such a reply and spell the
#   label with a backslash. dnsmessage has no spelling for a dot within a label
#   and returns "invalid dns name". Message.Unpack then has no authority section
#   at all, Parser.AllAuthorities and Parser.SOAResource fail, and so the TTL
#   of a plain NXDOMAIN is out of reach. Two ways stay open:
#   Parser.SkipAllAuthorities passes over the record, and
#   Parser.UnknownResource returns its bytes, of which the last four are the
#   number that RFC 2308 wants. It is not the mailbox alone: a DNS-SD name with
#   a dot in its first label (RFC 6763 §4.3) is refused in a PTR too. The
#   package's documentation does not say so; golang/go issue 76049 has the
#   mailbox, still open at this version.
#
# Why it matters here: the names that a mesh resolves belong to anyone, and
#   their operators' mailboxes have dots. A resolver that calls the reply
#   broken turns "this name has no IPv6 address" into a failed lookup, for
#   some zones and not for others.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require (
	github.com/miekg/dns v1.1.73
	golang.org/x/net v0.62.0
)
E
cat > main.go <<'E'
package main

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// reply packs a reply of one record, in the answer or in the authority section.
func reply(rcode int, answer bool, text string) []byte {
	rr, err := dns.NewRR(text)
	if err != nil {
		log.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("nothing.example.com.", dns.TypeAAAA)
	m.Id, m.Response, m.Rcode = 1, true, rcode
	if answer {
		m.Answer = []dns.RR{rr}
	} else {
		m.Ns = []dns.RR{rr}
	}
	b, err := m.Pack()
	if err != nil {
		log.Fatal(err)
	}
	return b
}

// authority is a parser that stands before the authority section.
func authority(b []byte) *dnsmessage.Parser {
	p := new(dnsmessage.Parser)
	if _, err := p.Start(b); err != nil {
		log.Fatal(err)
	}
	if err := p.SkipAllQuestions(); err != nil {
		log.Fatal(err)
	}
	if err := p.SkipAllAnswers(); err != nil {
		log.Fatal(err)
	}
	return p
}

func main() {
	plain := reply(dns.RcodeNameError, false, `example.com. 900 IN SOA ns.example.com. hostmaster.example.com. 1 2 3 4 60`)
	dotted := reply(dns.RcodeNameError, false, `example.com. 900 IN SOA ns.example.com. Action\.domains.example.com. 1 2 3 4 60`)
	service := reply(dns.RcodeSuccess, true, `_http._tcp.example.com. 900 IN PTR Dr\.Pepper._http._tcp.example.com.`)
	if err := os.WriteFile(os.Args[1], dotted, 0o600); err != nil {
		log.Fatal(err)
	}

	m := new(dns.Msg)
	if err := m.Unpack(dotted); err != nil {
		log.Fatal(err)
	}
	fmt.Println("miekg/dns:", m.Ns[0].(*dns.SOA).Mbox)

	var d dnsmessage.Message
	err := d.Unpack(plain)
	fmt.Printf("dnsmessage, no dot, Unpack: %v, %d in authority\n", err, len(d.Authorities))
	d = dnsmessage.Message{}
	err = d.Unpack(dotted)
	fmt.Printf("dnsmessage, Unpack: %v, %d in authority\n", err, len(d.Authorities))
	_, err = authority(dotted).AllAuthorities()
	fmt.Println("dnsmessage, AllAuthorities:", err)
	p := authority(dotted)
	if _, err := p.AuthorityHeader(); err != nil {
		log.Fatal(err)
	}
	_, err = p.SOAResource()
	fmt.Println("dnsmessage, SOAResource:", err)
	fmt.Println("dnsmessage, SkipAllAuthorities:", authority(dotted).SkipAllAuthorities())
	p = authority(dotted)
	if _, err := p.AuthorityHeader(); err != nil {
		log.Fatal(err)
	}
	raw, err := p.UnknownResource()
	fmt.Printf("dnsmessage, UnknownResource: %v, keep for %d s\n", err, binary.BigEndian.Uint32(raw.Data[len(raw.Data)-4:]))
	d = dnsmessage.Message{}
	fmt.Println("dnsmessage, PTR to a service, Unpack:", d.Unpack(service))
}
E
go run . "$dir/reply" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check dnspython==2.9.2
"$dir/py/bin/python" - "$dir/reply" >> "$dir/out" <<'E'
import sys
import dns.message

m = dns.message.from_wire(open(sys.argv[1], "rb").read())
print("dnspython:", m.authority[0][0].rname)
E

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts dns-packet@5.6.1
node -e '
const m = require("dns-packet").decode(require("fs").readFileSync(process.argv[1]));
console.log("dns-packet:", m.authorities[0].data.rname);
' "$dir/reply" >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
miekg/dns: Action\.domains.example.com.
dnsmessage, no dot, Unpack: <nil>, 1 in authority
dnsmessage, Unpack: unpacking Authority: SOA record: MBox: invalid dns name, 0 in authority
dnsmessage, AllAuthorities: unpacking Authority: SOA record: MBox: invalid dns name
dnsmessage, SOAResource: MBox: invalid dns name
dnsmessage, SkipAllAuthorities: <nil>
dnsmessage, UnknownResource: <nil>, keep for 60 s
dnsmessage, PTR to a service, Unpack: unpacking Answer: PTR record: invalid dns name
dnspython: Action\.domains.example.com.
dns-packet: Action\.domains.example.com
E
