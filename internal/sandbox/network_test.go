package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/capture"
)

func TestEveryConnectionArrivesWithItsOriginalDestination(t *testing.T) {
	output, exit, p := inside(t, "get",
		"http://192.0.2.7:81/", "http://[2001:db8::7]:443/", "http://[::ffff:192.0.2.8]:80/", "http://www.example.com/", "http://10.1.2.3:15001/")
	want := "you meant 192.0.2.7:81\nyou meant [2001:db8::7]:443\nyou meant 192.0.2.8:80\nyou meant 198.19.0.7:80\nyou meant 10.1.2.3:15001\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d, output %q, want %q", exit, output, want)
	}
	if len(p.asked) == 0 || p.asked[0] != "www.example.com. of 198.18.0.1:53" {
		t.Errorf("asked %q", p.asked)
	}
}

func TestCurlIsCaptured(t *testing.T) {
	needProgram(t, "curl")
	output, exit, _ := inside(t, "curl", "-sS", "http://www.example.com:8080/", "http://192.0.2.1/")
	if exit != 0 || !strings.Contains(output, "198.19.0.7:8080") || !strings.Contains(output, "192.0.2.1:80") {
		t.Errorf("exit %d, output %q", exit, output)
	}
}

// getRole fetches each URL as a plain client would.
func getRole(urls []string) int {
	for _, url := range urls {
		response, err := http.Get(url)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Print(string(body))
	}
	return 0
}

func TestAnyNameServerAnswersFromTheAddressThatWasAsked(t *testing.T) {
	servers := []string{"198.18.0.1", "fd00:5c::1", "8.8.8.8", "2001:4860:4860::8888", "127.0.0.53", "127.0.0.11", "10.255.255.53"}
	output, exit, _ := inside(t, append([]string{"ask"}, servers...)...)
	var want []string
	for _, server := range servers {
		want = append(want, "udp "+server+": 198.19.0.7")
		want = append(want, "tcp "+server+": 198.19.0.7")
	}
	if exit != 0 || !slices.Equal(lines(output), want) {
		t.Errorf("exit %d\n%s\nwant\n%s", exit, output, strings.Join(want, "\n"))
	}
}

// askRole asks each server over UDP, from a socket that is not connected and so
// would take an answer from anybody, and over TCP.
func askRole(servers []string) int {
	name := dnsmessage.MustNewName("a.example.")
	question, _ := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	for _, server := range servers {
		address := netip.AddrPortFrom(netip.MustParseAddr(server), 53)
		fmt.Printf("udp %s: %s\n", server, askUDP(address, question))
		fmt.Printf("tcp %s: %s\n", server, askTCP(address, question))
	}
	return 0
}

func askUDP(server netip.AddrPort, question []byte) string {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(eventuallyWithin))
	if _, err := conn.WriteToUDPAddrPort(question, server); err != nil {
		return err.Error()
	}
	buffer := make([]byte, 512)
	n, from, err := conn.ReadFromUDPAddrPort(buffer)
	if err != nil {
		return err.Error()
	}
	if from.Addr().Unmap() != server.Addr() || from.Port() != 53 {
		return "answered from " + from.String()
	}
	return addressOf(buffer[:n])
}

func askTCP(server netip.AddrPort, question []byte) string {
	conn, err := net.DialTimeout("tcp", server.String(), eventuallyWithin)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(eventuallyWithin))
	conn.Write(append([]byte{byte(len(question) >> 8), byte(len(question))}, question...))
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) < 2 {
		return fmt.Sprint(err)
	}
	return addressOf(answer[2:])
}

func addressOf(answer []byte) string {
	var message dnsmessage.Message
	if err := message.Unpack(answer); err != nil || len(message.Answers) != 1 {
		return fmt.Sprintf("%v %+v", err, message)
	}
	body, ok := message.Answers[0].Body.(*dnsmessage.AResource)
	if !ok {
		return message.GoString()
	}
	return netip.AddrFrom4(body.A).String()
}

func TestOtherUDPIsRefusedAtOnce(t *testing.T) {
	output, exit, _ := inside(t, "send",
		"8.8.8.8:443", "[2001:4860:4860::8888]:443", "192.0.2.1:123", "224.0.0.251:5353", "[ff02::fb%lo]:5353", "255.255.255.255:67", "198.18.0.1:443")
	for _, line := range lines(output) {
		_, outcome, _ := strings.Cut(line, " ")
		// The gate is local: there its own port says that nobody listens.
		if outcome != "operation not permitted" && outcome != "permission denied" && outcome != "connection refused" && outcome != "network is unreachable" {
			t.Errorf("%s", line)
		}
	}
	if exit != 0 || len(lines(output)) != 7 {
		t.Errorf("exit %d, output %s", exit, output)
	}
}

// sendRole sends a packet to each address and says how soon that failed.
func sendRole(addresses []string) int {
	for _, address := range addresses {
		outcome := func() error {
			conn, err := net.Dial("udp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(eventuallyWithin))
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 1))
			return err
		}()
		var errno syscall.Errno
		if errors.As(outcome, &errno) {
			outcome = errno
		}
		fmt.Println(address, outcome)
	}
	return 0
}

func TestACommandsOwnServersWork(t *testing.T) {
	output, exit, p := inside(t, "own-servers")
	if exit != 0 || output != "" {
		t.Errorf("exit %d: %s", exit, output)
	}
	if len(p.reached()) != 0 {
		t.Errorf("the proxy saw %v", p.reached())
	}
}

func ownServersRole([]string) int {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "127.0.0.1:80", "127.0.0.1:15001", "127.0.0.1:53"} {
		listener, err := net.Listen("tcp", listen)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				conn.Write([]byte("mine"))
				conn.Close()
			}
		}()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if said, err := io.ReadAll(conn); string(said) != "mine" {
			fmt.Printf("%s: %q %v\n", listen, said, err)
			return 1
		}
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	conn, err := net.Dial("udp", packets.LocalAddr().String())
	if err == nil {
		_, err = conn.Write([]byte("x"))
	}
	if err == nil {
		_, _, err = packets.ReadFrom(make([]byte, 1))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestWhatTheHostServesOnLoopbackIsOutOfReach(t *testing.T) {
	var targets []string
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		targets = append(targets, listener.Addr().String())
	}
	output, exit, p := inside(t, append([]string{"dial"}, targets...)...)
	if exit != 0 || strings.Count(output, "connection refused") != 2 || len(p.reached()) != 0 {
		t.Errorf("exit %d, output %s", exit, output)
	}
}

func TestTheProxysOwnPortIsNoWayOut(t *testing.T) {
	output, exit, p := inside(t, "dial", "198.18.0.1:15001", "[fd00:5c::1]:15001", "198.18.0.1:80", "127.0.0.1:15001")
	for i, want := range []string{"connection reset by peer", "connection reset by peer", "connection refused", "connection refused"} {
		if got := lines(output); i >= len(got) || !strings.HasSuffix(got[i], want) {
			t.Errorf("line %d of %q, want %s", i, got, want)
		}
	}
	if exit != 0 || len(p.reached()) != 0 {
		t.Errorf("exit %d, the proxy took %v", exit, p.reached())
	}
}

// dialRole connects to each address, reads to the end and says how it ended.
func dialRole(addresses []string) int {
	for _, address := range addresses {
		conn, err := net.DialTimeout("tcp", address, eventuallyWithin)
		if err == nil {
			conn.SetDeadline(time.Now().Add(eventuallyWithin))
			_, err = io.ReadAll(conn)
			conn.Close()
		}
		fmt.Println(address, err)
	}
	return 0
}

func TestAServerInsideIsDialledAndSeesItsClient(t *testing.T) {
	v4, v6 := capture.WorkloadAddresses(300)
	for listen, client := range map[string]string{
		"127.0.0.1:9080": v4.String(),
		"[::1]:9080":     v6.String(),
		// Go listens on both families here: v4, or v6 where it began to listen in between.
		"0.0.0.0:9080": "either",
		"[::]:9080":    "either",
		":80":          "either",
	} {
		t.Run(listen, func(t *testing.T) {
			p := newPlace(t, Config{Command: []string{"serve", listen}})
			if err := p.Start(nil); err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(listen)
			number := uint16(9080)
			if port == "80" {
				number = 80
			}
			var conn *net.TCPConn
			eventually(t, "a connection", func() bool {
				var err error
				conn, err = capture.DialInward(short(t), p.capture.Inward, v4, v6, number)
				return err == nil
			})
			defer conn.Close()
			line, err := bufio.NewReader(conn).ReadString('\n')
			if client == "either" && strings.Contains(line, v6.String()) {
				client = v6.String()
			} else if client == "either" {
				client = v4.String()
			}
			if err != nil || line != "hello "+client+"\n" {
				t.Errorf("%q, %v; want hello %s", line, err, client)
			}
			_, err = capture.DialInward(short(t), p.capture.Inward, v4, v6, 9999)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a closed port: %v", err)
			}
			p.Kill()
			p.Wait()
			if _, err := capture.DialInward(short(t), p.capture.Inward, v4, v6, number); !errors.Is(err, capture.ErrFactoryGone) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// serveRole greets each client by its address.
func serveRole(args []string) int {
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 1
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		fmt.Fprintf(conn, "hello %s\n", client)
		conn.Close()
	}
}

func TestResolvConfNamesTheGateAndTheSearchList(t *testing.T) {
	p := newPlace(t, Config{Command: []string{"cat-files", "/etc/resolv.conf"}})
	output, exit := p.run(t, "default.svc.cluster.local", "cluster.local")
	want := "nameserver 198.18.0.1\nsearch default.svc.cluster.local cluster.local\noptions ndots:5\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d, %q", exit, output)
	}
}

func TestALineCannotBeSmuggledIntoResolvConf(t *testing.T) {
	for _, search := range [][]string{{"a\nnameserver 8.8.8.8"}, {"a b"}, {""}, {strings.Repeat("a", 254)}, slices.Repeat([]string{"a"}, 33)} {
		p := newPlace(t, Config{Command: []string{"true"}})
		if err := p.Start(search); err == nil {
			t.Errorf("%q was taken", search)
		}
	}
}

func catRole(files []string) int {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		os.Stdout.Write(content)
	}
	return 0
}
