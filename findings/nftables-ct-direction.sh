#!/usr/bin/env bash
#
# What google/nftables sends for "ct reply ..." the kernel takes for "ct original ...", or for
# both directions, and nobody reports an error.
#
# Versions: Go module github.com/google/nftables v0.3.0; seen with Linux 6.18 and nft 1.0.6.
#
# Expected: expr.Ct has a field Direction, 0 for original and 1 for reply, which goes to the
#   kernel for each key that nft(8) takes with "original" or "reply".
#
# Seen: for saddr, daddr, proto-src and proto-dst it is sent as four bytes in network order. The
#   kernel's attribute is one byte (NLA_U8 in net/netfilter/nft_ct.c) and it reads the first,
#   which is 0 for either direction: nft lists "ct original" for both. For l3proto, protocol,
#   bytes, packets, avgpkt and zone nothing is sent, so that "ct reply bytes" is the sum of both
#   directions. What the kernel sends back is an error to the library's own GetRules.
#
# Why it matters here: a rule about answers is one about questions, and a limit on what comes
#   back counts what goes out too. Who needs a direction has to write the message by other means.
#
# Needs: bash, Go. As root with unshare and nft the kernel is asked too, in a network namespace of
#   its own; elsewhere that part is left out.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.27.4
cat > go.mod <<'E'
module finding

go 1.26.0
E
go get github.com/google/nftables@v0.3.0 2> /dev/null
cat > main.go <<'E'
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

const (
	exprData    = 2 // NFTA_EXPR_DATA
	ctDirection = 3 // NFTA_CT_DIRECTION
	original    = 0 // IP_CT_DIR_ORIGINAL
	reply       = 1 // IP_CT_DIR_REPLY
)

func main() {
	if len(os.Args) > 1 {
		kernel()
		return
	}
	for _, of := range []struct {
		name string
		key  expr.CtKey
	}{
		{"saddr", expr.CtKeySRC}, {"daddr", expr.CtKeyDST}, {"proto-src", expr.CtKeyPROTOSRC}, {"proto-dst", expr.CtKeyPROTODST},
		{"l3proto", expr.CtKeyL3PROTOCOL}, {"protocol", expr.CtKeyPROTOCOL},
		{"bytes", expr.CtKeyBYTES}, {"packets", expr.CtKeyPKTS}, {"avgpkt", expr.CtKeyAVGPKT}, {"zone", expr.CtKeyZONE},
	} {
		message, err := expr.Marshal(2, &expr.Ct{Key: of.key, Direction: reply, Register: 1})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("ct reply %s: direction % x\n", of.name, sent(message))
	}
}

// sent returns the direction in a message, as bytes.
func sent(message []byte) (direction []byte) {
	outer, err := netlink.NewAttributeDecoder(message)
	if err != nil {
		log.Fatal(err)
	}
	for outer.Next() {
		if outer.Type() != exprData {
			continue
		}
		outer.Nested(func(inner *netlink.AttributeDecoder) error {
			for inner.Next() {
				if inner.Type() == ctDirection {
					direction = inner.Bytes()
				}
			}
			return nil
		})
	}
	if err := outer.Err(); err != nil {
		log.Fatal(err)
	}
	return direction
}

// kernel writes a rule for each direction, and reads them.
func kernel() {
	conn, err := nftables.New()
	if err != nil {
		log.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "t"})
	chain := conn.AddChain(&nftables.Chain{Name: "c", Table: table})
	for _, direction := range []uint32{original, reply} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Ct{Key: expr.CtKeyPROTODST, Direction: direction, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 80}},
		}})
	}
	if err := conn.Flush(); err != nil {
		log.Fatal(err)
	}
	_, err = conn.GetRules(table, chain)
	fmt.Println("GetRules:", err)
}
E
go mod tidy 2> /dev/null
go build -o finding .
wrong() {
	echo "The behaviour is not what this finding says." >&2
	exit 1
}

./finding > out
cat out
diff -u - out <<'E' || wrong
ct reply saddr: direction 00 00 00 01
ct reply daddr: direction 00 00 00 01
ct reply proto-src: direction 00 00 00 01
ct reply proto-dst: direction 00 00 00 01
ct reply l3proto: direction 
ct reply protocol: direction 
ct reply bytes: direction 
ct reply packets: direction 
ct reply avgpkt: direction 
ct reply zone: direction 
E

if ! command -v nft > /dev/null || ! unshare -n nft list ruleset > /dev/null 2>&1; then
	echo "left out: the kernel's part needs root, unshare and nft" >&2
	exit 0
fi
unshare -n sh -c './finding kernel; nft list ruleset' > out
cat out
grep -q '^GetRules: netlink: attribute 3 is not a uint32; length: 1$' out || wrong
[ "$(grep -c 'ct original proto-dst' out)" = 2 ] || wrong
