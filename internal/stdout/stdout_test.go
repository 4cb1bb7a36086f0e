package stdout

import (
	"errors"
	"strings"
	"testing"
)

// full takes so many bytes and fails then, as a disk does.
type full struct{ left int }

var errFull = errors.New("no space left on the disk")

func (f *full) Write(b []byte) (int, error) {
	if len(b) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

// errVerdict is an error that only sums up what was printed.
var errVerdict = errors.New("denied")

func TestAFailedWriteIsToldBesideWhatElseWentWrong(t *testing.T) {
	other := errors.New("no such rule")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "cannot write the output: no space left on the disk"},
		{errVerdict, "cannot write the output: no space left on the disk"},
		{other, "no such rule; and cannot write the output: no space left on the disk"},
	} {
		w := &Writer{To: &full{}}
		if _, err := w.Write([]byte("x")); !errors.Is(err, errFull) {
			t.Fatal(err)
		}
		w.To = &full{100}
		if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("behind a failed write it wrote %d, %v", n, err)
		}
		got := w.Outcome(c.err, errors.Is(c.err, errVerdict))
		if got.Error() != c.want || errors.Is(got, other) != errors.Is(c.err, other) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	if (&Writer{To: new(strings.Builder)}).Outcome(nil, false) != nil {
		t.Error("where nothing failed there is an error")
	}
	if err := (&Writer{To: new(strings.Builder)}).Outcome(errVerdict, true); !errors.Is(err, errVerdict) {
		t.Errorf("what was printed came to %v", err)
	}
}
