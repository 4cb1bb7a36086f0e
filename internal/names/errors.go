package names

import (
	"errors"
	"fmt"
	"strconv"
)

// Why a spelling is not a valid host name. Callers compare with errors.Is; what Parse and
// ParseHost return is an *Error that wraps one of them.
var (
	ErrEmpty    = errors.New("it is empty")
	ErrTooLong  = errors.New("it is longer than 253 bytes")
	ErrAddress  = errors.New("it is an address, not a name")
	ErrNumeric  = errors.New("its last label is a number, and it is not an address")
	ErrLabel    = errors.New("a label is empty, longer than 63 bytes, or starts with a hyphen")
	ErrByte     = errors.New("it holds a character that no host name has")
	ErrPercent  = errors.New("it is percent-encoded")
	ErrIDNA     = errors.New("it is not a valid internationalised name (UTS 46)")
	ErrPort     = errors.New("its port is not a number from 1 to 65535, written without leading zeros")
	ErrBrackets = errors.New("its brackets do not hold an IPv6 address")
)

// Error says which spelling was refused, and why.
type Error struct {
	Input string // cut at 64 bytes: strangers choose it
	Why   error  // one of the errors above
}

func (e *Error) Error() string { return fmt.Sprintf("host name %q: %v", e.Input, e.Why) }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Why }

// refuse returns an Error for input.
func refuse(input string, why error) error {
	const bound = 64
	if len(input) > bound {
		input = input[:bound]
	}
	return &Error{Input: input, Why: why}
}

func decimal(port uint16) string { return strconv.FormatUint(uint64(port), 10) }
