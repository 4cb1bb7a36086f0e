package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// roleVariable makes the test binary work inside a namespace instead of testing.
const roleVariable = "SIDECAR_TEST_ROLE"

// Addresses of the Pod, of its node (which is the internet too), and of two sites.
const (
	pod4, pod6   = "10.99.0.2", "fd99::2"
	node4, node6 = "10.99.0.1", "fd99::1"
	site4, site6 = "93.184.215.14", "2606:2800:21f:cb07::14"
	away4, away6 = "93.184.215.15", "2606:2800:21f:cb07::15"
	// Of neither: the node is to reach them by the Pod, which is no router.
	beyond4, beyond6 = "198.51.100.7", "2001:db8::7"
)

// zone is what the node's DNS says; nothing else exists.
var zone = map[string][2]string{"www.example.com.": {site4, site6}, "away.example.com.": {away4, away6}}

// role does the work of one process inside a namespace.
func role(name string, args []string) error {
	switch name {
	case "pod": // waits until it has a link, and holds the namespace
		if err := podLink(); err != nil {
			return err
		}
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "node":
		return node(args[0])
	case "serve": // the application
		return serveApplication(args[0])
	case "get":
		return get(args[0], args[1])
	case "lookup":
		addresses, err := resolver(args[1]).LookupNetIP(context.Background(), "ip", args[0])
		fmt.Println(addresses)
		return err
	case "dial":
		return dial(args[0], args[1])
	case "reach": // somebody else's address, by a neighbour that is no router
		return reach(args[0], args[1], args[2])
	}
	return fmt.Errorf("no role %q", name)
}

// link gives an interface its addresses and, where there is a way, a default route.
func link(name string, addresses []string, via []string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		parsed, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		parsed.Flags |= 2 // IFA_F_NODAD: usable at once
		if err := netlink.AddrAdd(l, parsed); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for _, gateway := range via {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
			return fmt.Errorf("route by %s: %w", gateway, err)
		}
	}
	return nil
}

func podLink() error {
	fmt.Println("begun")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil { // the link is there
		return err
	}
	if err := link("lo", nil, nil); err != nil {
		return err
	}
	return link("eth0", []string{pod4 + "/24", pod6 + "/64"}, []string{node4, node6})
}

// node makes the link to the Pod, and serves DNS and the sites. What came to the sites is
// printed, a line each.
func node(podPID string) error {
	var pid int
	if _, err := fmt.Sscan(podPID, &pid); err != nil {
		return err
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "pod0"}, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("link to the Pod: %w", err)
	}
	if err := link("lo", []string{site4 + "/32", away4 + "/32", site6 + "/128", away6 + "/128"}, nil); err != nil {
		return err
	}
	if err := link("pod0", []string{node4 + "/24", node6 + "/64"}, nil); err != nil {
		return err
	}
	var said sync.Mutex
	say := func(format string, args ...any) {
		said.Lock()
		defer said.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	for _, host := range []string{node4, node6} {
		conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			return err
		}
		go serveDNS(conn)
	}
	for _, host := range []string{site4, site6, away4, away6} {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "80"))
		if err != nil {
			return err
		}
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			say("request to %s from %s", host, from)
			fmt.Fprintf(w, "from %s", from)
		}))
		packets, err := net.ListenPacket("udp", net.JoinHostPort(host, "9999"))
		if err != nil {
			return err
		}
		go func() {
			buffer := make([]byte, 100)
			for {
				if _, from, err := packets.ReadFrom(buffer); err == nil {
					say("packet to %s from %s", host, from)
				}
			}
		}()
	}
	say("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() { // said behind what was said before it
		say("%s", lines.Text())
	}
	return lines.Err()
}

func serveDNS(conn net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}, Questions: m.Questions}
		site, known := zone[strings.ToLower(q.Name.String())]
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 60}
		switch {
		case !known:
			answer.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			answer.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: netip.MustParseAddr(site[0]).As4()}}}
		case q.Type == dnsmessage.TypeAAAA:
			answer.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(site[1]).As16()}}}
		}
		if packed, err := answer.Pack(); err == nil {
			conn.WriteTo(packed, from)
		}
	}
}

// serveApplication answers with the address that it sees of its client.
func serveApplication(port string) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("", port))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "application of %s", from)
	}))
}

// resolver asks a server as a resolv.conf with it alone would.
func resolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(server, "53"))
	}}
}

// get does one request over one family ("tcp4", "tcp6") and prints what came of it as JSON.
func get(network, url string) error {
	server := node4
	if network == "tcp6" {
		server = node6
	}
	dialer := &net.Dialer{Resolver: resolver(server), Timeout: 20 * time.Second}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}}
	var got outcome
	response, err := client.Get(url)
	if err != nil {
		got.Error = err.Error()
	} else {
		body, _ := io.ReadAll(response.Body)
		got.Status, got.Body = response.StatusCode, string(body)
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// outcome is what came of a request.
type outcome struct {
	Status      int
	Body, Error string
}

// reach connects to an address that it routes by a gateway.
func reach(network, address, gateway string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	bits := at.Addr().BitLen()
	route := &netlink.Route{Dst: &net.IPNet{IP: at.Addr().AsSlice(), Mask: net.CIDRMask(bits, bits)}, Gw: net.ParseIP(gateway)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route by %s: %w", gateway, err)
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial(network, address)
	if err != nil {
		fmt.Println("error:", err)
		return nil
	}
	fmt.Println("connected")
	return conn.Close()
}

// dial connects or sends by a network and prints the error.
func dial(network, address string) error {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	dialer.SetMultipathTCP(strings.HasPrefix(network, "mptcp"))
	conn, err := dialer.Dial(strings.TrimPrefix(network, "mp"), address)
	if err == nil {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: away.example.com\r\nConnection: close\r\n\r\n"))
		if err == nil && !strings.HasPrefix(network, "udp") {
			var answer []byte
			answer, err = io.ReadAll(conn)
			fmt.Printf("%q\n", answer)
		}
		conn.Close()
	}
	if err != nil {
		fmt.Println("error:", err)
	}
	return nil
}
