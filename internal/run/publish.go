package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/capture"

	"sluice.dev/sluice/internal/names"
)

// ParsePublish reads [ADDR:]PORT[:PORT]: where to listen outside, the loopback address
// 127.0.0.1 where no address is given, and the port inside, the same one where none is
// given. An IPv6 address stands in brackets.
func ParsePublish(text string) (Publish, error) {
	p, err := parsePublish(text)
	if err != nil {
		return p, fmt.Errorf("--publish %s: %w; write [ADDRESS:]PORT[:PORT], such as 8080, 9000:8080 or 0.0.0.0:9000:8080", text, err)
	}
	return p, nil
}

func parsePublish(text string) (p Publish, err error) {
	address, rest := netip.AddrFrom4([4]byte{127, 0, 0, 1}), text
	if end := strings.Index(text, "]:"); strings.HasPrefix(text, "[") && end > 0 {
		if address, err = netip.ParseAddr(text[1:end]); err != nil || !address.Is6() {
			return p, fmt.Errorf("%q is not an IPv6 address", text[1:end])
		}
		rest = text[end+2:]
	} else if first, others, ok := strings.Cut(text, ":"); ok && strings.Contains(first, ".") {
		if address, err = netip.ParseAddr(first); err != nil {
			return p, fmt.Errorf("%q is not an address", first)
		}
		rest = others
	}
	outside, inside, two := strings.Cut(rest, ":")
	if !two {
		inside = outside
	}
	var ports [2]uint16
	for i, word := range []string{outside, inside} {
		port, ok := names.ParsePort(word)
		if !ok {
			return p, fmt.Errorf("port %q is not a number from 1 to 65535", word)
		}
		ports[i] = port
	}
	return Publish{Listen: netip.AddrPortFrom(address, ports[0]), Port: ports[1]}, nil
}

// String is what ParsePublish reads.
func (p Publish) String() string { return p.Listen.String() + ":" + strconv.Itoa(int(p.Port)) }

// listen opens the listeners of what is published, before anything is started.
func listen(published []Publish) ([]*net.TCPListener, error) {
	var listeners []*net.TCPListener
	for _, p := range published {
		config := net.ListenConfig{Control: capture.ControlUrgent}
		config.SetMultipathTCP(false)
		listener, err := config.Listen(context.Background(), "tcp", p.Listen.String())
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("--publish %s: %w", p, errors.Unwrap(err))
		}
		listeners = append(listeners, listener.(*net.TCPListener))
	}
	return listeners, nil
}

func closeAll(listeners []*net.TCPListener) {
	for _, l := range listeners {
		l.Close()
	}
}
