// Package agent is what a workload of a test does: it takes an Ask a line on its
// standard input and gives an Answer a line on its standard output. The tests
// run it in sandboxes by mesh.Agent. It never decides whether what it saw is
// right.
package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The things that an agent can be asked to do.
const (
	Ready    = "ready" // nothing
	Get      = "get"   // fetch URL on a connection of its own
	Hold     = "hold"  // open TLS to Address, send a request on it and keep it
	Ended    = "ended" // wait until what was held ends; Error says how
	Say      = "say"   // send Send to Address over TCP and read until the end
	Datagram = "udp"   // send Send to Address over UDP and read one answer
	Unix     = "unix"  // connect to the socket at Path, send Send and read
	Visit    = "visit" // fetch Count URLs, the number in place of %d, many at once; Code is how many were answered 200
	Pace     = "pace"  // fetch URL Count times, Rate a second, however long each takes; Code is how many were answered 200, Body their times
	Keep     = "keep"  // open Count connections to Address, send Send on each and keep them; the number in place of %d in both
	Drop     = "drop"  // close what is kept, and let what hangs be answered
	Files    = "files" // Body is the open descriptors, a line each
	Serve    = "serve" // serve HTTP on Address; every answer is the Send
	Hang     = "hang"  // serve HTTP on Address; every answer is the Send, and waits for Drop
	Greet    = "greet" // serve on Address: say Send first, and send back what comes then
)

// Ask is one thing to do.
type Ask struct {
	Do        string
	URL       string        `json:",omitempty"`
	Address   string        `json:",omitempty"`
	Network   string        `json:",omitempty"` // of Unix: "unix" or "unixpacket"
	Path      string        `json:",omitempty"`
	CA        string        `json:",omitempty"` // file that servers chain to
	Send      []byte        `json:",omitempty"`
	HalfClose bool          `json:",omitempty"` // of Say: nothing more is sent
	First     bool          `json:",omitempty"` // of Say and Unix: the first words of an answer are enough
	Rate      int           `json:",omitempty"` // of Pace
	Count     int           `json:",omitempty"` // of Pace and Keep, and of Say and Datagram, all at once; 1 unless told
	Wait      time.Duration `json:",omitempty"` // for an answer; 90 s unless told
}

// Answer is what came of it.
type Answer struct {
	Code  int    `json:",omitempty"` // HTTP status
	Body  []byte `json:",omitempty"`
	Error string `json:",omitempty"`
}

const (
	maxBody     = 1 << 20          // bytes that are kept of what was read
	defaultWait = 90 * time.Second // long, so that a busy machine decides nothing
)

// Run serves asks until the input ends.
func Run(in io.Reader, out io.Writer) error {
	a := &agent{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var ask Ask
		var answer Answer
		err := json.Unmarshal(lines.Bytes(), &ask)
		if err == nil {
			if ask.Wait == 0 {
				ask.Wait = defaultWait
			}
			answer, err = a.do(ask)
		}
		if err != nil {
			answer.Error = err.Error()
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
			return err
		}
	}
	return lines.Err()
}

type agent struct {
	held net.Conn
	kept []net.Conn
	hang chan struct{} // closed by Drop; nil: nothing hangs
}

func (a *agent) do(ask Ask) (Answer, error) {
	switch ask.Do {
	case Ready:
		return Answer{}, nil
	case Get:
		return get(ask)
	case Hold:
		return a.hold(ask)
	case Ended:
		a.held.SetReadDeadline(time.Now().Add(ask.Wait))
		_, err := io.Copy(io.Discard, a.held)
		if err == nil {
			err = io.EOF
		}
		return Answer{}, err
	case Say:
		return exchanges("tcp", ask)
	case Datagram:
		return exchanges("udp", ask)
	case Unix:
		return exchange(ask.Network, ask.Path, ask)
	case Visit:
		return visit(ask)
	case Pace:
		return pace(ask)
	case Keep:
		return a.keep(ask)
	case Drop:
		for _, conn := range a.kept {
			conn.Close()
		}
		a.kept = nil
		if a.hang != nil {
			close(a.hang)
			a.hang = nil
		}
		return Answer{}, nil
	case Files:
		return files()
	case Greet:
		l, err := net.Listen("tcp", ask.Address)
		if err != nil {
			return Answer{}, err
		}
		go greet(l, ask.Send)
		return Answer{}, nil
	case Hang:
		l, err := net.Listen("tcp", ask.Address)
		if err != nil {
			return Answer{}, err
		}
		hang := make(chan struct{})
		a.hang = hang
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-hang
			w.Write(ask.Send)
		}))
		return Answer{}, nil
	case Serve:
		l, err := net.Listen("tcp", ask.Address)
		if err != nil {
			return Answer{}, err
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(ask.Send) }))
		return Answer{}, nil
	}
	return Answer{}, fmt.Errorf("cannot %q", ask.Do)
}

// greet speaks first on each connection of a listener.
func greet(l net.Listener, greeting []byte) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.Write(greeting)
			io.Copy(conn, conn)
		}()
	}
}

func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool, err
}

func get(ask Ask) (Answer, error) {
	pool, err := roots(ask.CA)
	if err != nil {
		return Answer{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	client := &http.Client{Transport: transport, Timeout: ask.Wait}
	response, err := client.Get(ask.URL)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	return Answer{Code: response.StatusCode, Body: body}, err
}

// visitors is how many URLs are fetched at once.
const visitors = 150

func visit(ask Ask) (Answer, error) {
	numbers := make(chan int)
	var ok atomic.Int64
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			for i := range numbers {
				one := ask
				one.URL = fmt.Sprintf(ask.URL, i)
				if answer, err := get(one); err == nil && answer.Code == http.StatusOK {
					ok.Add(1)
				}
			}
		})
	}
	for i := range ask.Count {
		numbers <- i
	}
	close(numbers)
	all.Wait()
	return Answer{Code: int(ok.Load())}, nil
}

// pace is an open loop: a request that is late does not keep the next one back. Error is
// that of the first that was not answered.
func pace(ask Ask) (Answer, error) {
	type outcome struct {
		took time.Duration
		code int
		err  error
	}
	outcomes := make(chan outcome, ask.Count)
	tick := time.NewTicker(time.Second / time.Duration(ask.Rate))
	defer tick.Stop()
	for range ask.Count {
		<-tick.C
		go func() {
			start := time.Now()
			answer, err := get(ask)
			outcomes <- outcome{time.Since(start), answer.Code, err}
		}()
	}
	answer := Answer{}
	var took []time.Duration
	for range ask.Count {
		o := <-outcomes
		took = append(took, o.took)
		switch {
		case o.code == http.StatusOK && o.err == nil:
			answer.Code++
		case answer.Error == "":
			answer.Error = fmt.Sprintf("%d %v", o.code, o.err)
		}
	}
	slices.Sort(took)
	answer.Body = fmt.Appendf(nil, "p50 %v, p99 %v", took[len(took)/2], took[len(took)*99/100])
	return answer, nil
}

func (a *agent) hold(ask Ask) (Answer, error) {
	pool, err := roots(ask.CA)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ask.Wait)
	defer cancel()
	host, _, err := net.SplitHostPort(ask.Address)
	if err != nil {
		return Answer{}, err
	}
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool}}).DialContext(ctx, "tcp", ask.Address)
	if err != nil {
		return Answer{}, err
	}
	a.held = conn
	conn.SetDeadline(time.Now().Add(ask.Wait))
	defer conn.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return Answer{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodHead})
	if err != nil {
		return Answer{}, err
	}
	return Answer{Code: response.StatusCode}, nil
}

// exchanges does an exchange with Address, or Count of them at once; the answer
// is that of one.
func exchanges(network string, ask Ask) (Answer, error) {
	var others sync.WaitGroup
	defer others.Wait()
	for range ask.Count - 1 {
		others.Go(func() { exchange(network, ask.Address, ask) })
	}
	return exchange(network, ask.Address, ask)
}

// exchange sends and reads: one message over UDP, until the end elsewhere. What
// was read before an error is in the answer too.
func exchange(network, address string, ask Ask) (Answer, error) {
	conn, err := net.DialTimeout(network, address, ask.Wait)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(ask.Wait))
	if _, err := conn.Write(ask.Send); err != nil {
		return Answer{}, err
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && ask.HalfClose {
		if err := half.CloseWrite(); err != nil {
			return Answer{}, err
		}
	}
	var body []byte
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		body = append(body, buffer[:n]...)
		switch {
		case errors.Is(err, io.EOF), err == nil && (network == "udp" || ask.First):
			return Answer{Body: body}, nil
		case err != nil, len(body) > maxBody:
			return Answer{Body: body}, err
		}
	}
}

// keep opens connections; Code says how many of them took what was sent.
func (a *agent) keep(ask Ask) (Answer, error) {
	answer := Answer{}
	for i := range ask.Count {
		address, send := ask.Address, ask.Send
		if strings.Contains(address, "%d") {
			address, send = fmt.Sprintf(address, i), bytes.ReplaceAll(send, []byte("%d"), strconv.AppendInt(nil, int64(i), 10))
		}
		conn, err := net.DialTimeout("tcp", address, ask.Wait)
		if err != nil {
			return answer, err
		}
		a.kept = append(a.kept, conn)
		conn.SetWriteDeadline(time.Now().Add(ask.Wait))
		if _, err := conn.Write(send); err == nil {
			answer.Code++
		}
	}
	return answer, nil
}

// files lists what our descriptors are, but for those of the runtime's own.
func files() (Answer, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return Answer{}, err
	}
	var answer Answer
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			answer.Body = fmt.Appendf(answer.Body, "%s %s\n", entry.Name(), target)
		}
	}
	return answer, nil
}
