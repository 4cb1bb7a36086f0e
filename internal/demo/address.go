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

// ports is where the demo's programs are reached by HTTP.
type ports struct {
	ingress       string
	serverMetrics string
	proxyMetrics  string
	health        string
}

// portsOf is the ports of a demo, where none is taken.
func portsOf(ingress string) ports {
	return ports{ingress: ingress, serverMetrics: "127.0.0.1:15014", proxyMetrics: "127.0.0.1:15020", health: "127.0.0.1:15021"}
}

// free returns the same with another port for each that is taken, all different.
func (p ports) free() (ports, error) {
	for _, address := range []*string{&p.ingress, &p.serverMetrics, &p.proxyMetrics, &p.health} {
		l, err := listenNear(*address)
		if err != nil {
			return ports{}, err
		}
		defer l.Close() // held until all are chosen
		*address = l.Addr().String()
	}
	return p, nil
}

// listenNear listens on the wanted address or, where its port is taken, on another port of
// the same address.
func listenNear(wanted string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(wanted)
	if err != nil {
		return nil, fmt.Errorf("--ingress %s: %w", wanted, err)
	}
	first, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--ingress %s: the port must be a number up to 65535", wanted)
	}
	candidates := []uint64{first}
	for next := first + 1; next <= min(first+otherPorts, 65535); next++ {
		candidates = append(candidates, next)
	}
	for _, candidate := range append(candidates, 0) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(candidate, 10)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: %w", wanted, err)
		}
	}
	return nil, errors.New("no port is free on " + host)
}
