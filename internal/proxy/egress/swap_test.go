package egress

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// A pool that is made by rules which were swapped out a moment ago is asked about like
// one that stood when they were.
func TestAPoolOfRulesThatWereSwappedOutMeanwhileTakesNoRequests(t *testing.T) {
	private := allow(t, "api.example.com:80")
	private.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	old := ruled(t, private)
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	holder.Swap(ruled(t, allow(t, "api.example.com:80")))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	down, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	one := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	conn, _, why := gate.New(gate.Config{Holder: holder, Share: one}).Admit(context.Background(), down.(*net.TCPConn))
	if why != nil {
		t.Fatal(why)
	}
	defer conn.Leave()
	w := New(Config{Kit: &carry.Kit{Upstream: upstream.Allowance{Open: one, Handshakes: one}}})
	defer w.Close()
	r := &requests{chain: policy.Chain{Port: 80, Dialled: names.MustParse("api.example.com"), Sniffed: policy.HTTP}}
	r.Init(w.kit, conn, carry.About{})
	r.pooled = pooled{way: w, records: &r.Requests}
	d := decide(old, &r.chain)
	pool, err := r.poolFor(&d, &r.chain, upstream.HTTP11)
	if err != nil || !pool.Closed() {
		t.Errorf("%v; it takes requests to the addresses of the old rules", err)
	}
	now := decide(conn.Snapshot(), &r.chain)
	if pool, err := r.poolFor(&now, &r.chain, upstream.HTTP11); err != nil || pool.Closed() {
		t.Errorf("the next request has no pool: %v", err)
	}
}
