package simnet

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The black holes: whatever is sent to one of these addresses is dropped without a
// word, as by a host that is off or a network that leads nowhere.
var blackHoles = []netip.Prefix{netip.MustParsePrefix("104.18.21.0/24"), netip.MustParsePrefix("2606:4700:dead::/48")}

// dropBlackHoles drops what arrives for the black holes, of the families that there are.
// A prefix is of whole bytes.
func dropBlackHoles(ipv6 bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "simnet"})
	arriving := conn.AddChain(&nftables.Chain{Name: "arriving", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	for _, hole := range blackHoles {
		family, offset := byte(unix.NFPROTO_IPV4), uint32(16) // of the destination in the header
		if hole.Addr().Is6() {
			family, offset = unix.NFPROTO_IPV6, 24
		}
		if hole.Addr().Is6() && !ipv6 {
			continue
		}
		length := uint32(hole.Bits() / 8)
		conn.AddRule(&nftables.Rule{Table: table, Chain: arriving, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Register: 1, Data: []byte{family}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
			&expr.Cmp{Register: 1, Data: hole.Addr().AsSlice()[:length]},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	return conn.Flush()
}
