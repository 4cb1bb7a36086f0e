package demo

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// otherPorts is how many ports behind the wanted one are tried before any other.
const otherPorts = 20

// freeAddress returns the wanted address or, where its port is taken, one with
// another port of the same address.
func freeAddress(wanted string) (string, error) {
	host, port, err := net.SplitHostPort(wanted)
	if err != nil {
		return "", fmt.Errorf("--ingress %s: %w", wanted, err)
	}
	first, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", fmt.Errorf("--ingress %s: the port must be a number up to 65535", wanted)
	}
	candidates := []uint64{first}
	for next := first + 1; next <= min(first+otherPorts, 65535); next++ {
		candidates = append(candidates, next)
	}
	for _, candidate := range append(candidates, 0) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(candidate, 10)))
		if err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", fmt.Errorf("--ingress %s: %w", wanted, err)
		}
	}
	return "", errors.New("no port is free for the page")
}
