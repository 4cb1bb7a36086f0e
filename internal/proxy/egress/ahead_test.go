package egress

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

func TestAConnectionThatDoesNotComeIsWaitedForForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a ahead
		ends := Ends{From: netip.MustParseAddrPort("198.18.0.1:1"), To: netip.MustParseAddrPort("198.19.0.1:5432")}
		one, began := a.expect(ends), time.Now()
		if down := a.arrive(t.Context(), one); down != nil || time.Since(began) != AheadTimeout {
			t.Errorf("%v after %v", down, time.Since(began))
		}
		if a.count.Load() != 0 || len(a.waiting) != 0 {
			t.Error("it is still waited for")
		}
	})
}

func TestAConnectFailsAsItsDialDid(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{refusal.New(refusal.ConnectRefused, ""), syscall.ECONNREFUSED},
		{refusal.New(refusal.ConnectTimeout, ""), syscall.ETIMEDOUT},
		{&refusal.Error{Reason: refusal.ConnectFailed, Err: syscall.ENETUNREACH}, syscall.ENETUNREACH},
		{&refusal.Error{Reason: refusal.ConnectFailed, Err: fmt.Errorf("connect: %w", syscall.EHOSTUNREACH)}, syscall.EHOSTUNREACH},
		{refusal.New(refusal.NoSuchName, ""), syscall.EHOSTUNREACH},
		{refusal.New(refusal.Overflow, ""), syscall.EHOSTUNREACH},
		{refusal.New(refusal.PrivateAddress, ""), syscall.ECONNREFUSED},
		{refusal.New(refusal.NoRule, ""), syscall.ECONNREFUSED},
	} {
		if got := errnoOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
