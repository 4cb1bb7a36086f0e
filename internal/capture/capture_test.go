package capture

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestANamespaceHandsOutFiveSockets(t *testing.T) {
	c, _ := captured(t, "dial")
	if len(c.TCP) != 2 || len(c.DNS) != 2 {
		t.Fatalf("%d TCP, %d DNS", len(c.TCP), len(c.DNS))
	}
	for i, want := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		conn, err := c.TCP[i].AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if got := OriginalDestination(conn); got.String() != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := destinationOf(t, c, conn); got.String() != want {
			t.Errorf("by its descriptor %s, want %s", got, want)
		}
		if source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); source != Gate4 && source != Gate6 {
			t.Errorf("source %s", source)
		}
		conn.Close()
	}
}

// destinationOf is Capture.DestinationOf of a connection of package net.
func destinationOf(t *testing.T, c *Capture, conn *net.TCPConn) (destination netip.AddrPort) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { destination = c.DestinationOf(int(fd)) })
	return destination
}

func TestWithoutIPv6ThereAreThree(t *testing.T) {
	c, _ := captured(t, "without-ipv6")
	if len(c.TCP) != 1 || len(c.DNS) != 1 || c.Inward == nil {
		t.Fatalf("%d TCP, %d DNS, factory %v", len(c.TCP), len(c.DNS), c.Inward)
	}
	conn, err := c.TCP[0].AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := OriginalDestination(conn).String(); got != "192.0.2.1:80" {
		t.Error(got)
	}
}

func TestFilesThatAreNoCaptureAreRefusedAndClosed(t *testing.T) {
	open := func(domain, kind int) *os.File {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "test")
	}
	before := countDescriptors()
	for name, files := range map[string]func() []*os.File{
		"none":             func() []*os.File { return nil },
		"only DNS":         func() []*os.File { return []*os.File{open(unix.AF_INET, unix.SOCK_DGRAM)} },
		"not listening":    func() []*os.File { return []*os.File{open(unix.AF_INET, unix.SOCK_STREAM)} },
		"a stream of unix": func() []*os.File { return []*os.File{open(unix.AF_UNIX, unix.SOCK_STREAM)} },
		"netlink":          func() []*os.File { return []*os.File{open(unix.AF_NETLINK, unix.SOCK_RAW)} },
		"a file": func() []*os.File {
			file, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return []*os.File{file}
		},
		"too many": func() (files []*os.File) {
			for range MaxFiles + 1 {
				files = append(files, open(unix.AF_INET, unix.SOCK_DGRAM))
			}
			return files
		},
	} {
		if c, err := FromFiles(files()); err == nil {
			c.Close()
			t.Errorf("%s was taken", name)
		}
	}
	if after := countDescriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestLocalIsWhatNeverLeftTheNamespace(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:443": true, "[::1]:80": true, "0.0.0.0:80": true, "[::]:80": true,
		"198.18.0.1:15001": true, "[fd00:5c::1]:443": true, "[::ffff:127.0.0.1]:80": true, "[fd00:5c::1%lo]:80": true,
		"127.0.0.53:53": false, "198.18.0.1:53": false, // DNS over TCP
		"192.0.2.1:80": false, "198.19.0.1:443": false, "198.18.1.1:80": false, "[2001:2::1]:443": false,
	} {
		if got := Local(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !Local(netip.AddrPort{}) {
		t.Error("no address is not local")
	}
}

func TestWorkloadAddressesAreDistinctAndInTheirPrefix(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for n := range MaxWorkload + 1 {
		v4, v6 := WorkloadAddresses(n)
		if seen[v4] || seen[v6] || v4 == Gate4 || v6 == Gate6 || !WorkloadPrefix4.Contains(v4) || !WorkloadPrefix6.Contains(v6) {
			t.Fatalf("workload %d: %s, %s", n, v4, v6)
		}
		seen[v4], seen[v6] = true, true
	}
	for _, n := range []int{-1, MaxWorkload + 1} {
		if v4, _ := WorkloadAddresses(n); v4.IsValid() {
			t.Errorf("workload %d has %s", n, v4)
		}
	}
	if WorkloadPrefix4.Overlaps(SyntheticPrefix4) || WorkloadPrefix6.Overlaps(SyntheticPrefix6) {
		t.Error("workloads and names share addresses")
	}
}

func TestTheLastRuleRefusesAndWithoutIPv6NothingIsOfIt(t *testing.T) {
	for _, ipv6 := range []bool{true, false} {
		rules := ruleset(ipv6, Options{LoopbackDNS: true})
		if last := rules[len(rules)-1]; last.action != refuse || last.to.IsValid() || last.chain != leaving {
			t.Errorf("the last rule is %+v", last)
		}
		for _, r := range rules {
			if !ipv6 && r.to.IsValid() && r.to.Addr().Is6() {
				t.Errorf("without IPv6: %+v", r)
			}
			if r.action == redirect && r.target.Addr().Is4() != r.to.Addr().Is4() {
				t.Errorf("another family: %+v", r)
			}
		}
	}
}

func FuzzOriginalDestination(f *testing.F) {
	var control [64]byte
	n := packetInfo(control[:], Gate6)
	f.Add(control[:n])
	f.Add([]byte{20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 53, 8, 8, 8, 8})
	f.Fuzz(func(t *testing.T, control []byte) {
		if address, ok := originalDestination(control); ok && !address.IsValid() {
			t.Error("an address that is none")
		}
	})
}
