//go:build linux

package cli

import (
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// parseListen reads the values of --listen, PORT[/PROTOCOL].
func parseListen(texts []string) (ports []uint16, protocols map[uint16]policy.Protocol, err error) {
	for _, text := range texts {
		number, word, said := strings.Cut(text, "/")
		port, ok := names.ParsePort(number)
		if !ok {
			return nil, nil, fmt.Errorf("--listen %q must be a port from 1 to 65535, with /http, /http2, /grpc or /tcp behind it where it is known what is spoken there", text)
		}
		protocol := policy.ProtocolNone
		if said {
			if protocol, err = policy.ParseProtocol(word); err == nil {
				err = wire.CheckServiceProtocol(protocol)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("--listen %q: %w", text, err)
			}
		}
		if slices.Contains(ports, port) && protocols[port] != protocol {
			return nil, nil, fmt.Errorf("--listen %q: port %d is given another protocol already", text, port)
		}
		ports = append(ports, port)
		if said {
			if protocols == nil {
				protocols = make(map[uint16]policy.Protocol)
			}
			protocols[port] = protocol
		}
	}
	return ports, protocols, nil
}
