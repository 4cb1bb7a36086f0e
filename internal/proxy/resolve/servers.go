package resolve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// maxServers is how many nameserver lines count, as in libc.
	maxServers = 3
	// maxResolvConf bounds what is read of resolv.conf, in bytes.
	maxResolvConf = 64 << 10
	// recheckAfter is how long resolv.conf is believed to be unchanged.
	recheckAfter = time.Second
	dnsPort      = 53

	systemResolvConf = "/etc/resolv.conf"
)

// resolvConf is the servers of a resolv.conf, read again when it changes.
type resolvConf struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	checked time.Time
	info    os.FileInfo
	servers []netip.AddrPort
}

// list returns the servers. When the file cannot be read, those it had before
// stay; without any, the error says why.
func (r *resolvConf) list() ([]netip.AddrPort, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.servers != nil && now.Sub(r.checked) < recheckAfter {
		return r.servers, nil
	}
	r.checked = now
	servers, info, err := r.read()
	switch {
	case err != nil && r.servers == nil:
		return nil, err
	case err == nil && servers != nil:
		r.servers, r.info = servers, info
	}
	return r.servers, nil
}

// SystemServers reads the machine's DNS servers, as a Resolver does that is given none.
func SystemServers() ([]netip.AddrPort, error) {
	servers, _, err := (&resolvConf{path: systemResolvConf}).read()
	return servers, err
}

// read returns nil servers when the file is the one that was read before.
func (r *resolvConf) read() ([]netip.AddrPort, os.FileInfo, error) {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return loopbackServers(), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the DNS servers: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read the DNS servers: %w", err)
	}
	if r.info != nil && os.SameFile(info, r.info) && info.ModTime().Equal(r.info.ModTime()) && info.Size() == r.info.Size() {
		return nil, nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil, nil, fmt.Errorf("read the DNS servers: %w", err)
	}
	return parseResolvConf(text), info, nil
}

// parseResolvConf reads the nameserver lines (resolv.conf(5)).
func parseResolvConf(text []byte) []netip.AddrPort {
	var servers []netip.AddrPort
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || string(fields[0]) != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(string(fields[1]))
		if err != nil {
			continue
		}
		servers = append(servers, netip.AddrPortFrom(a.Unmap(), dnsPort))
		if len(servers) == maxServers {
			break
		}
	}
	if len(servers) == 0 {
		return loopbackServers()
	}
	return servers
}

// loopbackServers is what libc asks where no server is named.
func loopbackServers() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
}

// ParseServers reads DNS servers as a flag has them: ADDRESS, or ADDRESS:PORT.
func ParseServers(texts []string) ([]netip.AddrPort, error) {
	var list []netip.AddrPort
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, netip.AddrPortFrom(addr, 53))
			continue
		}
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("DNS server %q must be an address, or ADDRESS:PORT", text)
		}
		list = append(list, at)
	}
	return list, nil
}
