#!/usr/bin/env bash
#
# A rule that google/nftables wrote has fewer expressions when google/nftables reads it.
#
# Versions: Go module github.com/google/nftables v0.3.0, with github.com/mdlayher/netlink as it
#   requires it.
#
# Expected: GetRules returns the rules of a chain with their expressions; what AddRule can
#   write, it can read.
#
# Seen, where the library is given back the message that it wrote itself: tproxy, socket, dup,
#   rt and byteorder are left out of Rule.Exprs, without an error and without anything in
#   their place. The rule is there, and shorter. Others (redir, fib, meta, masquerade) come back.
#
# Why it matters here: whoever reads a chain, changes one rule and writes the others as they
#   were read loses a redirection; and a test that compares what was written with what is
#   there has to look at the kernel by other means, or it compares nothing.
#
# Needs: bash, Go. No privilege: the library speaks to a function in place of the kernel.
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

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

const (
	newRule = netlink.HeaderType(10<<8 | 6) // NFT_MSG_NEWRULE of NFNL_SUBSYS_NFTABLES
	getRule = netlink.HeaderType(10<<8 | 7)
)

func main() {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "t"}
	chain := &nftables.Chain{Name: "c", Table: table}
	for _, written := range []expr.Any{
		&expr.TProxy{Family: 2, TableFamily: 2, RegPort: 1},
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Dup{RegAddr: 1},
		&expr.Rt{Register: 1, Key: expr.RtClassid},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Redir{RegisterProtoMin: 1},
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Masq{},
	} {
		var rule []byte
		conn, err := nftables.New(nftables.WithTestDial(func(asked []netlink.Message) (answers []netlink.Message, err error) {
			for _, m := range asked {
				switch {
				case m.Header.Type == newRule:
					rule = m.Data
				case m.Header.Type == getRule:
					return []netlink.Message{
						{Header: netlink.Header{Type: newRule, Flags: netlink.Multi, Sequence: m.Header.Sequence}, Data: rule},
						{Header: netlink.Header{Type: netlink.Done, Flags: netlink.Multi, Sequence: m.Header.Sequence}, Data: make([]byte, 4)},
					}, nil
				}
				if m.Header.Flags&netlink.Acknowledge != 0 {
					answers = append(answers, netlink.Message{Header: netlink.Header{Type: netlink.Error, Sequence: m.Header.Sequence}, Data: make([]byte, 4)})
				}
			}
			return answers, nil
		}))
		if err != nil {
			log.Fatal(err)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{written}})
		if err := conn.Flush(); err != nil {
			log.Fatal(err)
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%T: %d rule, %d expressions\n", written, len(rules), len(rules[0].Exprs))
	}
}
E
go mod tidy 2> /dev/null
go run . > out

cat out
diff -u - out <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
*expr.TProxy: 1 rule, 0 expressions
*expr.Socket: 1 rule, 0 expressions
*expr.Dup: 1 rule, 0 expressions
*expr.Rt: 1 rule, 0 expressions
*expr.Byteorder: 1 rule, 0 expressions
*expr.Redir: 1 rule, 1 expressions
*expr.Fib: 1 rule, 1 expressions
*expr.Meta: 1 rule, 1 expressions
*expr.Masq: 1 rule, 1 expressions
E
