package refusal

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
)

func TestEachReasonHasOneRowWithATextAndAStatus(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range All() {
		if seen[r] {
			t.Errorf("%s has two rows", r)
		}
		seen[r] = true
		if !r.Known() || !strings.HasSuffix(r.Text(), ".") || r.Status() < 400 || r.Status() > 599 {
			t.Errorf("%s: group %d, text %q, status %d", r, r.Group(), r.Text(), r.Status())
		}
	}
}

func TestADenialIsToldFromAFailureByItsReasonAlone(t *testing.T) {
	for reason, denied := range map[Reason]bool{
		NoRule: true, PrivateAddress: true, CertificateFail: true, RequestMalformed: true, "never-heard-of": true,
		ConnectRefused: false, UpstreamTLS: false, ClientGone: false, "": false,
	} {
		if (&Error{Reason: reason}).Denied() != denied {
			t.Errorf("%q: denied is not %v", reason, denied)
		}
	}
}

func TestTheReasonIsFoundThroughWrappedErrors(t *testing.T) {
	inner := &Error{Reason: ConnectRefused, Text: "192.0.2.1 refused the connection", Err: io.EOF}
	got := Of(fmt.Errorf("dial: %w", inner))
	if got != inner || got.Error() != "192.0.2.1 refused the connection: EOF" || !errors.Is(got, io.EOF) {
		t.Errorf("got %v", got)
	}
	if got := (&Error{Reason: UpstreamReset, Err: io.EOF}).Error(); got != "The upstream closed the connection before its answer was complete: EOF" {
		t.Errorf("the reason's own sentence becomes %q", got)
	}
	if got := Of(io.EOF); got.Reason != Internal || !errors.Is(got, io.EOF) {
		t.Errorf("an error without a reason is %v", got)
	}
	if Of(nil) != nil {
		t.Error("no error has a reason")
	}
}

func TestTheAddressThatWasTriedIsFoundInTheLayerThatKnowsIt(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:443")
	dial := &Error{Reason: ConnectRefused, Addr: at}
	above := &Error{Reason: UpstreamConnect, Err: fmt.Errorf("connect: %w", dial)}
	if above.Tried() != at || dial.Tried() != at {
		t.Errorf("tried %v and %v, want %v", above.Tried(), dial.Tried(), at)
	}
	if none := (&Error{Reason: NoSuchName, Err: errors.New("dns")}).Tried(); none.IsValid() {
		t.Errorf("nothing was tried, and it says %v", none)
	}
}

// A failure without a flag would look like a success in a log.
func TestEachReasonHasAFlag(t *testing.T) {
	for _, r := range append(All(), "unknown-to-this-build") {
		if r.Flag() == "" {
			t.Errorf("%s has no flag", r)
		}
		if r.Group() == NotReached && r.Flag() == "DENY" {
			t.Errorf("%s is a failure, and its flag says that it was denied", r)
		}
	}
	if flag := Reason("").Flag(); flag != "" {
		t.Errorf("no reason has the flag %q", flag)
	}
}
