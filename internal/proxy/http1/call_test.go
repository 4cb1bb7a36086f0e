package http1

import (
	"math/big"
	"regexp"
	"testing"
	"time"
)

// timeouts are values of grpc-timeout and what is read of them.
var timeouts = map[string]time.Duration{
	"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
	"99999999S": 99999999 * time.Second, "00000001S": time.Second,
	"99999999H":  0, // more than a Duration holds: nobody waits for it
	"100000000n": 0, "": 0, "S": 0, "5": 0, "0S": 0, "-1S": 0, "+1S": 0, "1.5S": 0, "1 S": 0, " 1S": 0, "1s": 0, "1h": 0, "1ms": 0, "١S": 0,
}

func TestGRPCTimeoutIsReadToTheLetter(t *testing.T) {
	for text, want := range timeouts {
		if got := parseCallTimeout([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// What is read is what the grammar of gRPC says, and fits beside a clock's reading.
func FuzzGRPCTimeout(f *testing.F) {
	for text := range timeouts {
		f.Add(text)
	}
	grammar := regexp.MustCompile(`^([0-9]{1,8})([HMSmun])$`)
	units := map[string]time.Duration{"H": time.Hour, "M": time.Minute, "S": time.Second, "m": time.Millisecond, "u": time.Microsecond, "n": time.Nanosecond}
	f.Fuzz(func(t *testing.T, text string) {
		got := parseCallTimeout([]byte(text))
		parts := grammar.FindStringSubmatch(text)
		if parts == nil {
			if got != 0 {
				t.Errorf("%q: %v", text, got)
			}
			return
		}
		n, _ := new(big.Int).SetString(parts[1], 10)
		n.Mul(n, big.NewInt(int64(units[parts[2]])))
		if !n.IsInt64() || n.Int64() > 1<<62 {
			n.SetInt64(0)
		}
		if got != time.Duration(n.Int64()) {
			t.Errorf("%q: %v, want %v", text, got, time.Duration(n.Int64()))
		}
	})
}
