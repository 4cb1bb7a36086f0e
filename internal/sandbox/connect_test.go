package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// Ports that the tests' proxy foretells something of.
const (
	portRefused    = 7001
	portHost       = 7002
	portNetwork    = 7003
	portTimedOut   = 7004
	portOpen       = 7005
	portUnanswered = 7006
	portNeverAsked = 7007
	portOpenAlways = 7008
)

var foretold = map[uint16]capture.Answer{
	portRefused: {Errno: unix.ECONNREFUSED}, portHost: {Errno: unix.EHOSTUNREACH}, portNetwork: {Errno: unix.ENETUNREACH},
	portTimedOut: {Errno: unix.ETIMEDOUT}, portOpen: {}, portOpenAlways: {Always: true},
}

// oracle answers what the sandbox's init asks about connects, and notes it.
type oracle struct {
	mu    sync.Mutex
	asked []capture.Connecting
	held  []func(capture.Answer) // those of portUnanswered
	full  chan struct{}          // receives when as many as may be wait
}

// foretelling is newPlace with a proxy that answers questions, if the sandbox is
// supervised.
func foretelling(t testing.TB, config Config) (*place, *oracle) {
	t.Helper()
	p, o := newPlaceWhoAsks(t, config), &oracle{full: make(chan struct{}, 1)}
	questions := p.capture.Questions
	if questions == nil {
		if os.Getenv("CI") == "true" || !config.Unsupervised {
			t.Skip("this sandbox is not supervised")
		}
		return p, o
	}
	questions.Rules([]uint16{portNeverAsked})
	p.served.Go(func() { questions.Serve(o.answer) })
	return p, o
}

// questions are what was asked so far.
func (o *oracle) questions() []capture.Connecting {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

func (o *oracle) answer(asked capture.Connecting, say func(capture.Answer)) {
	o.mu.Lock()
	o.asked = append(o.asked, asked)
	answer, known := foretold[asked.To.Port()]
	if !known {
		o.held = append(o.held, say)
		if len(o.held) == capture.MaxQuestions {
			o.full <- struct{}{}
		}
	}
	o.mu.Unlock()
	if known {
		say(answer)
	}
}

// connectFrom connects a socket, which waits if it blocks, and returns its outcome.
func connectFrom(fd int, to netip.AddrPort, domain int) error {
	err := unix.Connect(fd, rawAddress(to, domain))
	if err != unix.EINPROGRESS {
		return err
	}
	return await(fd)
}

func await(fd int) error {
	if pollAgain([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(eventuallyWithin.Milliseconds())) != 1 {
		return errors.New("nothing")
	}
	value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && value != 0 {
		return unix.Errno(value)
	}
	return err
}

// pollAgain polls, and once more where one of the signals came by which the runtime has its
// goroutines take turns: no other call that waits is ended by them.
func pollAgain(fds []unix.PollFd, milliseconds int) (ready int) {
	for {
		n, err := unix.Poll(fds, milliseconds)
		if err != unix.EINTR {
			return n
		}
	}
}

func rawAddress(to netip.AddrPort, domain int) unix.Sockaddr {
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

func domainOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func openSocket(domain, flags int) int {
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return fd
}

// outcomesRole says what comes of a connect to each address, from a socket that blocks and
// from one that does not; one of the latter may be bound first.
func outcomesRole(args []string) int {
	for _, text := range args {
		to := netip.MustParseAddrPort(text)
		domain := domainOf(to.Addr())
		for _, flags := range []int{0, unix.SOCK_NONBLOCK} {
			fd := openSocket(domain, flags)
			fmt.Printf("%v;", connectFrom(fd, to, domain))
			unix.Close(fd)
		}
		bound := openSocket(domain, unix.SOCK_NONBLOCK)
		if err := unix.Bind(bound, rawAddress(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), unix.AF_INET6)); domain == unix.AF_INET6 && err != nil {
			fmt.Println(err)
		}
		if domain == unix.AF_INET {
			unix.Bind(bound, &unix.SockaddrInet4{})
		}
		fmt.Printf("%v\n", connectFrom(bound, to, domain))
		unix.Close(bound)
	}
	return 0
}

func TestAConnectComesToWhatTheProxySays(t *testing.T) {
	var args, want []string
	for _, c := range []struct {
		port uint16
		want error
	}{
		{portOpen, nil}, {portRefused, unix.ECONNREFUSED}, {portHost, unix.EHOSTUNREACH}, {portNetwork, unix.ENETUNREACH}, {portTimedOut, unix.ETIMEDOUT},
		{portOpenAlways, nil}, {portNeverAsked, nil},
	} {
		for _, host := range []string{"192.0.2.7", "[2001:db8::7]", "[::ffff:192.0.2.8]"} {
			if c.want == unix.ETIMEDOUT && host != "192.0.2.7" {
				continue // each waits for the kernel to give up
			}
			args = append(args, fmt.Sprintf("%s:%d", host, c.port))
			want = append(want, fmt.Sprintf("%v;%[1]v;%[1]v", c.want))
		}
	}
	p, o := foretelling(t, Config{Command: append([]string{"outcomes"}, args...)})
	output, exit := p.run(t)
	got := lines(output)
	if exit != 0 || len(got) != len(want) {
		t.Fatalf("exit %d: %s", exit, output)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %s, want %s", args[i], got[i], want[i])
		}
	}
	// The proxy may take a connection after the command that made it has ended.
	eventually(t, "27 connections are taken", func() bool { return len(p.reached()) >= 27 })
	connected := make(map[uint16]int)
	for _, to := range p.reached() {
		connected[to.Port()]++
	}
	asked := make(map[uint16]int)
	for _, one := range o.questions() {
		asked[one.To.Port()]++
		if from := one.From.Addr(); from != capture.Gate4 && from != capture.Gate6 || one.From.Port() == 0 {
			t.Errorf("asked from %s", one.From)
		}
	}
	for port, n := range map[uint16]int{portOpen: 9, portOpenAlways: 9, portNeverAsked: 9} {
		if connected[port] != n {
			t.Errorf("%d connections to port %d, want %d", connected[port], port, n)
		}
	}
	for _, port := range []uint16{portRefused, portHost, portNetwork, portTimedOut} {
		if connected[port] != 0 {
			t.Errorf("port %d was connected to", port)
		}
	}
	// The second and third address of a port that is open always are asked about anew.
	for port, n := range map[uint16]int{portOpen: 9, portRefused: 9, portTimedOut: 3, portOpenAlways: 3, portNeverAsked: 0} {
		if asked[port] != n {
			t.Errorf("asked %d times about port %d, want %d", asked[port], port, n)
		}
	}
}

// onceMoreRole connects a socket that was refused once more, to where nobody is asked, and
// one that is held back elsewhere.
func onceMoreRole(args []string) int {
	refused, quiet := netip.MustParseAddrPort(args[0]), netip.MustParseAddrPort(args[1])
	fd := openSocket(unix.AF_INET, unix.SOCK_NONBLOCK)
	fmt.Println(connectFrom(fd, refused, unix.AF_INET))
	fmt.Println(unix.Connect(fd, rawAddress(quiet, unix.AF_INET))) // ECONNABORTED: Linux ends the first here
	fmt.Println(connectFrom(fd, quiet, unix.AF_INET))
	waiting := openSocket(unix.AF_INET, unix.SOCK_NONBLOCK)
	fmt.Println(unix.Connect(waiting, rawAddress(netip.MustParseAddrPort(args[2]), unix.AF_INET)))
	fmt.Println(unix.Connect(waiting, rawAddress(netip.MustParseAddrPort(args[2]), unix.AF_INET))) // while it waits
	disconnect(waiting)
	fmt.Println(connectFrom(waiting, quiet, unix.AF_INET))
	return 0
}

func disconnect(fd int) {
	var none [unix.SizeofSockaddrInet4]byte // AF_UNSPEC
	unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), uintptr(len(none)))
	unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
}

func TestASocketThatWasHeldBackConnectsElsewhere(t *testing.T) {
	p, _ := foretelling(t, Config{Command: []string{"once-more",
		fmt.Sprint("192.0.2.7:", portRefused), fmt.Sprint("192.0.2.7:", portNeverAsked), fmt.Sprint("192.0.2.7:", portUnanswered)}})
	output, exit := p.run(t)
	var want string
	for _, outcome := range []error{unix.ECONNREFUSED, unix.ECONNABORTED, nil, unix.EINPROGRESS, unix.EALREADY, nil} {
		want += fmt.Sprintln(outcome)
	}
	if exit != 0 || output != want {
		t.Errorf("exit %d, %q, want %q", exit, output, want)
	}
}

// manyConnectsRole begins many connects to a destination of which nothing is said, waits
// for its input and says how many came to something.
func manyConnectsRole(args []string) int {
	to := netip.MustParseAddrPort(args[0])
	fds := make([]int, capture.MaxQuestions+20)
	for i := range fds {
		fds[i] = openSocket(unix.AF_INET, unix.SOCK_NONBLOCK)
		if err := unix.Connect(fds[i], rawAddress(to, unix.AF_INET)); err != unix.EINPROGRESS {
			fmt.Println(i, err)
		}
	}
	connected := func(wait int) (n int) {
		for _, fd := range fds {
			if pollAgain([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, wait) == 1 {
				n++
			}
		}
		return n
	}
	for _, fd := range fds[capture.MaxQuestions:] { // those that nobody holds back
		if err := await(fd); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(connected(0))
	os.Stdin.Read(make([]byte, 1))
	fmt.Println(connected(int(eventuallyWithin.Milliseconds())))
	return 0
}

// Beyond the bound connects begin at once, as they do without a proxy that answers; and
// where it goes, all that waits does.
func TestConnectsThatWaitAreBounded(t *testing.T) {
	p, o, say, hear := talking(t, "many-connects", fmt.Sprint("192.0.2.7:", portUnanswered))
	if got, want := hear(), fmt.Sprintln(20); got != want {
		t.Errorf("%q came through, want %q", got, want)
	}
	<-o.full
	p.capture.Questions.Close()
	say()
	if got, want := hear(), fmt.Sprintln(capture.MaxQuestions+20); got != want {
		t.Errorf("%q came through, want %q", got, want)
	}
	if exit, err := p.Wait(); exit != 0 || err != nil {
		t.Error(exit, err)
	}
	if len(o.questions()) != capture.MaxQuestions {
		t.Errorf("asked %d times", len(o.questions()))
	}
}

// talking starts a role that is told once to go on, and says what it wrote since.
func talking(t *testing.T, command ...string) (p *place, o *oracle, say func(), hear func() string) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, o = foretelling(t, Config{Command: command, Stdin: in, Stdout: write})
	in.Close()
	write.Close()
	t.Cleanup(func() { read.Close(); out.Close() })
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	return p, o, func() { out.Close() }, func() string {
		var said [200]byte
		n, _ := read.Read(said[:])
		return string(said[:n])
	}
}

// swappedRole has a socket take the place of the one that waits, in a thread of its own.
func swappedRole(args []string) int {
	to, quiet := netip.MustParseAddrPort(args[0]), netip.MustParseAddrPort(args[1])
	fd, other := openSocket(unix.AF_INET, 0), openSocket(unix.AF_INET, 0)
	kept, _ := unix.Dup(fd)
	outcome := make(chan error)
	go func() { outcome <- unix.Connect(fd, rawAddress(to, unix.AF_INET)) }()
	os.Stdin.Read(make([]byte, 1)) // until it waits
	if err := unix.Connect(other, rawAddress(quiet, unix.AF_INET)); err != nil {
		fmt.Println(err)
	}
	unix.Dup2(other, fd)
	fmt.Println("swapped")
	refused := <-outcome
	_, unconnected := unix.Getpeername(kept)
	peer, err := unix.Getpeername(fd)
	if at, ok := peer.(*unix.SockaddrInet4); ok {
		fmt.Printf("%v\n%v\n%d %v\n", refused, unconnected, at.Port, err)
	}
	return 0
}

// The answer is for the socket that was looked at, whatever its number means by then.
func TestASocketSwappedDuringTheWaitGetsNothingOfIt(t *testing.T) {
	p, o, say, hear := talking(t, "swapped", fmt.Sprint("192.0.2.7:", portUnanswered), fmt.Sprint("192.0.2.7:", portNeverAsked))
	var answer func(capture.Answer)
	eventually(t, "the question", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.held) == 1 {
			answer = o.held[0]
		}
		return answer != nil
	})
	say()
	if got := hear(); got != "swapped\n" {
		t.Fatal(got)
	}
	answer(capture.Answer{Errno: unix.ECONNREFUSED})
	if exit, err := p.Wait(); exit != 0 || err != nil {
		t.Fatal(exit, err)
	}
	if got, want := hear(), fmt.Sprint(unix.ECONNREFUSED, "\n", unix.ENOTCONN, "\n", portNeverAsked, " ", nil, "\n"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// unmarkRole tries what would let a SYN pass that is held back, and looks for the channel.
func unmarkRole(args []string) int {
	to := netip.MustParseAddrPort(args[0])
	fd := openSocket(unix.AF_INET, unix.SOCK_NONBLOCK)
	fmt.Println(unix.Connect(fd, rawAddress(to, unix.AF_INET)))
	for _, mark := range []int{0, capture.HeldMark} {
		fmt.Println(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark))
	}
	_, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	fmt.Println(err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	fmt.Println(err)
	for number := range 64 { // a channel that came along would be one of them
		if kind, err := unix.GetsockoptInt(number, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_SEQPACKET {
			fmt.Println("descriptor", number)
		}
	}
	pidfd, err := unix.PidfdOpen(1, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 3, 0)
	}
	fmt.Println(err)
	return 0
}

func TestTheCommandHasNoPartInWhatIsAskedAboutIt(t *testing.T) {
	p, o := foretelling(t, Config{Command: []string{"unmark", fmt.Sprint("192.0.2.7:", portUnanswered)}})
	output, exit := p.run(t)
	want := fmt.Sprintln(unix.EINPROGRESS) + strings.Repeat(fmt.Sprintln(unix.EPERM), 2) + fmt.Sprintln(unix.EAFNOSUPPORT) + strings.Repeat(fmt.Sprintln(unix.EPERM), 2)
	if exit != 0 || output != want {
		t.Errorf("exit %d, %q, want %q", exit, output, want)
	}
	if len(o.questions()) != 1 || len(p.reached()) != 0 {
		t.Errorf("asked %v, connected %v", o.questions(), p.reached())
	}
}

// Without the supervisor nobody asks: a connect succeeds at once.
func TestWithoutTheSupervisorNobodyAsks(t *testing.T) {
	p, o := foretelling(t, Config{Command: []string{"outcomes", fmt.Sprint("192.0.2.7:", portRefused)}, Unsupervised: true})
	output, exit := p.run(t)
	if want := "<nil>;<nil>;<nil>\n"; exit != 0 || output != want || len(o.questions()) != 0 || p.capture.Questions != nil {
		t.Errorf("exit %d, %q, want %q; asked %v", exit, output, want, o.questions())
	}
}
