package simnet

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/refusal"
)

// patience is how long a test waits for what must come; nothing waits longer than
// it has to.
const patience = time.Minute

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// visitor reaches an internet as the proxy does: by its sockets, with our own
// resolver and dialer.
type visitor struct {
	*Internet
	sockets *capture.Factory
	dialer  *resolve.Dialer
	roots   *x509.CertPool
}

func visit(t *testing.T) *visitor {
	t.Helper()
	n := Start(t)
	sockets, err := n.Dial(t.Context())
	must(t, err)
	resolver := resolve.NewResolver(resolve.ResolverConfig{
		Sockets: sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort(Resolver)},
	})
	t.Cleanup(func() { resolver.Close(); sockets.Close() })
	pem, err := os.ReadFile(n.CA)
	must(t, err)
	v := &visitor{Internet: n, sockets: sockets, roots: x509.NewCertPool(),
		dialer: resolve.NewDialer(resolve.DialerConfig{Sockets: sockets, Resolver: resolver})}
	if !v.roots.AppendCertsFromPEM(pem) {
		t.Fatal("the CA's file holds no certificate")
	}
	return v
}

func (v *visitor) dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	target := resolve.Target{Port: uint16(number), Consent: policy.NewConsent(nil, nil)}
	if target.Addr, err = netip.ParseAddr(host); err != nil {
		if target.Name, err = names.Parse(host); err != nil {
			return nil, err
		}
	}
	conn, _, err := v.dialer.Dial(ctx, target)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (v *visitor) client(http2 bool) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return v.dial(ctx, address) },
		TLSClientConfig:   &tls.Config{RootCAs: v.roots},
		ForceAttemptHTTP2: http2, DisableKeepAlives: true,
	}}
}

func (v *visitor) get(t *testing.T, url string) (string, *http.Response) {
	t.Helper()
	response, err := v.client(true).Get(url)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return string(body), response
}

func (v *visitor) records(t *testing.T, server string, kind Kind) []Record {
	t.Helper()
	records, err := v.Control.Records(t.Context(), server, kind)
	must(t, err)
	return records
}

func TestTheBooksServiceAnswersAndSeesWhoCame(t *testing.T) {
	v := visit(t)
	for _, url := range []string{"https://www.googleapis.com", "http://www.googleapis.com"} {
		must(t, v.Control.Reset(t.Context()))
		body, response := v.get(t, url+"/books/v1/volumes?q=isbn:0486424618")
		var answer struct {
			Items []struct {
				VolumeInfo struct {
					Title               string
					Authors             []string
					PageCount           int
					PrintType, Language string
					IndustryIdentifiers []struct{ Type, Identifier string }
				}
			}
		}
		must(t, json.Unmarshal([]byte(body), &answer))
		if response.StatusCode != 200 || len(answer.Items) != 1 {
			t.Fatalf("%d %s", response.StatusCode, body)
		}
		info := answer.Items[0].VolumeInfo
		if info.Title == "" || info.Authors[0] != "William Shakespeare" || info.PageCount == 0 || info.PrintType != "BOOK" || info.Language != "en" ||
			len(info.IndustryIdentifiers) != 2 || info.IndustryIdentifiers[0].Type != "ISBN_10" || info.IndustryIdentifiers[0].Identifier != "0486424618" {
			t.Errorf("%+v", info)
		}

		seen := v.records(t, "www.googleapis.com", Request)
		if len(seen) != 1 || seen[0].Host != "www.googleapis.com" || seen[0].Path != "/books/v1/volumes?q=isbn:0486424618" || seen[0].Peer == "" {
			t.Fatalf("requests: %+v", seen)
		}
		hands := v.records(t, "www.googleapis.com", Handshake)
		if encrypted := strings.HasPrefix(url, "https"); encrypted && (len(hands) != 1 || hands[0].SNI != "www.googleapis.com" ||
			hands[0].TLSVersion != "TLS 1.3" || hands[0].ALPN != "h2" || hands[0].Error != "" || seen[0].SNI != "www.googleapis.com" || seen[0].Proto != "HTTP/2.0") || !encrypted && len(hands) != 0 {
			t.Errorf("handshakes: %+v", hands)
		}
		// More where the first attempt was slow: happy eyeballs tries the other family.
		if open := v.records(t, "www.googleapis.com", Connection); len(open) == 0 {
			t.Errorf("connections: %+v", open)
		}
		if others := v.records(t, "evil.example.net", ""); len(others) != 0 {
			t.Errorf("the hostile server saw %+v", others)
		}
	}
	if body, _ := v.get(t, "https://www.googleapis.com/books/v1/volumes?q=isbn:1"); !strings.Contains(body, `"totalItems":0`) {
		t.Errorf("an unknown book: %s", body)
	}
}

func TestBothFamiliesServe(t *testing.T) {
	v := visit(t)
	for _, at := range []string{"142.250.74.74:443", "[2a00:1450:4001:82a::200a]:443"} {
		c, err := v.sockets.DialTCP(t.Context(), netip.Addr{}, netip.MustParseAddrPort(at))
		must(t, err)
		secure := tls.Client(c, &tls.Config{RootCAs: v.roots, ServerName: "fcm.googleapis.com"})
		must(t, secure.Handshake())
		secure.Close()
	}
	for _, resolver := range []string{Resolver, ResolverV6} {
		// One family is not waited for long where the other answered: ask until both
		// came in time.
		eventually(t, "both families of www.google.com from "+resolver, func() bool {
			r := resolve.NewResolver(resolve.ResolverConfig{Sockets: v.sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort(resolver)}})
			defer r.Close()
			addrs, err := r.Lookup(t.Context(), names.MustParse("www.google.com"), nil)
			return err == nil && len(addrs) == 2
		})
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestWebsitesAnswerForTheirOwnNamesOnly(t *testing.T) {
	v := visit(t)
	for _, c := range []struct {
		url, host string
		status    int
	}{
		{"https://www.google.com/", "", 200}, // on the address of www.googleapis.com
		{"https://www.google.com/", "www.google.com:443", 200},
		{"https://www.google.com/", "www.example.com", 421},
		{"http://93.184.215.14/", "", 421},
		{"http://93.184.215.14/", "example.com", 200},
		{"http://evil.example.net/", "www.googleapis.com", 200},
		{"http://multi.example.com/", "", 200}, // the first address is closed
		{"https://cdn.example.com/", "", 200},  // over two aliases
	} {
		request, err := http.NewRequest("GET", c.url, nil)
		must(t, err)
		if c.host != "" {
			request.Host = c.host
		}
		response, err := v.client(false).Do(request)
		if err != nil {
			t.Errorf("%s as %q: %v", c.url, c.host, err)
			continue
		}
		response.Body.Close()
		if hostile := response.Header.Get("X-Hostile") != ""; response.StatusCode != c.status || hostile != strings.Contains(c.url, "evil") {
			t.Errorf("%s as %q: %d, hostile %v, want %d", c.url, c.host, response.StatusCode, hostile, c.status)
		}
	}
}

// A black hole says nothing, so that only the race of addresses leads past it.
func TestBlackHolesAreSilentAndAreLedPast(t *testing.T) {
	v := visit(t)
	for _, at := range []string{"104.18.21.1", "2606:4700:dead::1"} {
		to := netip.MustParseAddr(at)
		if to.Is6() && !hasIPv6(v) {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := v.sockets.DialTCP(ctx, netip.Addr{}, netip.AddrPortFrom(to, 443))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", at, err)
		}
	}
	for name, dead := range map[string]int{"first-dead.example.com": 1, "many-dead.example.com": 20} {
		began := time.Now()
		body, response := v.get(t, "https://"+name+"/")
		took := time.Since(began)
		if response.StatusCode != 200 || !strings.HasPrefix(body, name) {
			t.Errorf("%s: %d %q", name, response.StatusCode, body)
		}
		t.Logf("%s: answered after %v", name, took)
		if least := time.Duration(dead) * resolve.AttemptDelay; took < least && (dead > 1 || hasIPv6(v)) {
			t.Errorf("%s: %v: the dead addresses were not tried", name, took)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*resolve.AttemptDelay)
	defer cancel()
	_, err := v.dial(ctx, "blackhole.example.com:443")
	if e := refusal.Of(err); e == nil || e.Reason != refusal.ConnectTimeout || !strings.Contains(e.Error(), "104.18.21.1") {
		t.Errorf("%v", err)
	}
}

// hasIPv6 reports whether the internet has IPv6.
func hasIPv6(v *visitor) bool {
	_, err := v.dial(context.Background(), "ipv6.google.com:443")
	return err == nil
}

func TestWrongCertificatesAreWrong(t *testing.T) {
	v := visit(t)
	for _, c := range []struct{ name, sni, want string }{
		{"expired.badssl.com", "", "expired"},
		{"wrong.host.badssl.com", "", "not wrong.host.badssl.com"},
		{"self-signed.badssl.com", "", "unknown authority"},
		{"evil.example.net", "www.googleapis.com", "unknown authority"},
		{"www.google.com", "www.example.com", "not www.example.com"},
		{"www.example.com", "", ""},
	} {
		conn, err := v.dial(t.Context(), c.name+":443")
		must(t, err)
		sni := c.sni
		if sni == "" {
			sni = c.name
		}
		secure := tls.Client(conn, &tls.Config{RootCAs: v.roots, ServerName: sni})
		err = secure.Handshake()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s as %s: %v, want %q", c.name, sni, err, c.want)
		}
		conn.Close()
	}
	// TLS 1.3: the client is done before the server asks for its certificate.
	conn, err := v.dial(t.Context(), "client.badssl.com:443")
	must(t, err)
	defer conn.Close()
	secure := tls.Client(conn, &tls.Config{RootCAs: v.roots, ServerName: "client.badssl.com"})
	must(t, secure.Handshake())
	if _, err := secure.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a client certificate: %v", err)
	}
}

func TestTheResolverLiesWhenTold(t *testing.T) {
	v := visit(t)
	ctx := t.Context()
	lookup := func() string {
		r := resolve.NewResolver(resolve.ResolverConfig{Sockets: v.sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort(Resolver)}})
		defer r.Close()
		addrs, err := r.Lookup(ctx, names.MustParse("www.example.com"), nil)
		var e *refusal.Error
		if errors.As(err, &e) {
			return string(e.Reason)
		}
		return fmt.Sprint(addrs)
	}
	must(t, v.Control.Lie(ctx, "WWW.example.com.", "45.33.32.156"))
	if got := lookup(); got != "[45.33.32.156]" {
		t.Errorf("a lie: %s", got)
	}
	for lie, want := range map[string]string{
		LieNXDOMAIN: string(refusal.NoSuchName), LieSERVFAIL: string(refusal.ResolveFailed), "CNAME evil.example.net": "45.33.32.156",
	} {
		must(t, v.Control.Lie(ctx, "www.example.com", lie))
		if got := lookup(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", lie, got)
		}
	}
	must(t, v.Control.Lie(ctx, "www.example.com"))
	if got := lookup(); got != string(refusal.NoAddress) {
		t.Errorf("no data: %s", got)
	}
	must(t, v.Control.Reset(ctx))
	eventually(t, "the truth", func() bool { return strings.Contains(lookup(), "93.184.215.14") })
	if seen := v.records(t, "dns", Question); len(seen) < 2 || !strings.HasPrefix(seen[0].Question, "www.example.com A") {
		t.Errorf("questions after the reset: %+v", seen)
	}
}

func TestTheZoneHoldsWhatTestsNeed(t *testing.T) {
	v := visit(t)
	for host, want := range map[string]string{
		"rebind.example.com":    string(refusal.PrivateAddress),
		"intranet.example.com":  string(refusal.PrivateAddress),
		"nowhere.example.com":   string(refusal.NoSuchName),
		"mail-only.example.com": string(refusal.NoAddress),
		"loop.example.com":      string(refusal.ResolveFailed),
		"refused.example.com":   string(refusal.ConnectRefused),
	} {
		_, err := v.dial(t.Context(), host+":443")
		var e *refusal.Error
		if !errors.As(err, &e) || string(e.Reason) != want {
			t.Errorf("%s: %v, want %s", host, err, want)
		}
	}
	// Many addresses do not fit UDP; the first is the one that serves.
	if _, response := v.get(t, "http://many.example.com/"); response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
	}
	r := resolve.NewResolver(resolve.ResolverConfig{Sockets: v.sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort(Resolver)}})
	defer r.Close()
	if addrs, err := r.Lookup(t.Context(), names.MustParse("many.example.com"), nil); err != nil || len(addrs) != resolve.MaxAddresses || addrs[0].String() != "93.184.215.14" {
		t.Errorf("many: %d %v", len(addrs), err)
	}
	// Nobody came where an answer must not lead.
	for _, server := range []string{"127.0.0.1", "169.254.169.254", "::1", "10.0.0.1"} {
		if seen := v.records(t, server, ""); len(seen) != 0 {
			t.Errorf("%s saw %+v", server, seen)
		}
	}
}

func TestADatabaseSpeaksFirst(t *testing.T) {
	v := visit(t)
	conn, err := v.dial(t.Context(), "db.example.com:3306")
	must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	greeting := make([]byte, 4+15)
	_, err = io.ReadFull(conn, greeting)
	must(t, err)
	if int(greeting[0]) != len(greeting)-4 || greeting[4] != 10 || !strings.Contains(string(greeting), "simnet") {
		t.Errorf("%q", greeting)
	}
	_, err = conn.Write([]byte("hello\n"))
	must(t, err)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestEndpointsOfAWebsite(t *testing.T) {
	v := visit(t)
	at := "http://httpbin.org"
	if body, _ := v.get(t, at+"/bytes/100000"); len(body) != 100000 || body[:64] != row || body[64*1000:64*1001] != row {
		t.Errorf("bytes: %d", len(body))
	}
	if body, response := v.get(t, at+"/chunked/70000"); len(body) != 70000 || response.ContentLength != -1 || response.Trailer.Get("X-Count") != "70000" {
		t.Errorf("chunked: %d, length %d, trailer %v", len(body), response.ContentLength, response.Trailer)
	}
	if _, response := v.get(t, at+"/status/503"); response.StatusCode != 503 {
		t.Errorf("status: %d", response.StatusCode)
	}
	if _, response := v.get(t, at+"/status/42"); response.StatusCode != 400 {
		t.Errorf("status 42: %d", response.StatusCode)
	}
	if body, _ := v.get(t, at+"/headers?a=b"); !strings.Contains(body, `"host":"httpbin.org"`) || !strings.Contains(body, "/headers?a=b") {
		t.Errorf("headers: %s", body)
	}
	begun := time.Now()
	if body, _ := v.get(t, at+"/delay/30"); !strings.Contains(body, "30 ms") || time.Since(begun) < 30*time.Millisecond {
		t.Errorf("delay: %s", body)
	}
	for path, want := range map[string]string{"/echo": "payload", "/sum": `"bytes":7`} {
		response, err := v.client(false).Post(at+path, "text/plain", strings.NewReader("payload"))
		must(t, err)
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %v", path, body, err)
		}
	}
	response, err := v.client(false).Get(at + "/drip/1")
	must(t, err)
	defer response.Body.Close()
	if _, err := io.ReadFull(response.Body, make([]byte, 5)); err != nil {
		t.Errorf("drip: %v", err)
	}
}

func TestAnInternetThatCannotStartSaysWhy(t *testing.T) {
	dir := t.TempDir()
	_, err := New(t.Context(), Config{Sockets: filepath.Join(dir, "nowhere", "sockets"), CA: filepath.Join(dir, "ca.pem"), Control: filepath.Join(dir, "control")})
	if err == nil || !strings.Contains(err.Error(), "nowhere/sockets") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ended, Config{Sockets: filepath.Join(dir, "sockets"), CA: filepath.Join(dir, "ca.pem"), Control: filepath.Join(dir, "control")}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The command runs as root and as an ordinary user, ends on SIGTERM, and leaves
// neither process nor file, not even when it is killed.
func TestTheCommandAsRootAndAsAUser(t *testing.T) {
	dir, err := os.MkdirTemp("", "simnet")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "simnet")
	build := exec.Command("go", "build", "-o", binary, "./cmd/simnet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	users := map[string]*syscall.Credential{"as we are": nil}
	if os.Geteuid() == 0 {
		users["as an ordinary user"] = &syscall.Credential{Uid: 1000, Gid: 1000}
	}
	for name, user := range users {
		for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(name+", ended by "+end.String(), func(t *testing.T) {
				place := filepath.Join(dir, fmt.Sprint(user != nil, int(end))) // short: a socket's path is
				must(t, os.MkdirAll(place, 0o700))
				defer os.RemoveAll(place)
				if user != nil {
					must(t, os.Chown(place, int(user.Uid), int(user.Gid)))
				}
				sockets, control := filepath.Join(place, "sockets"), filepath.Join(place, "control")
				// Pdeathsig is sent when the thread that started the process ends.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				cmd := exec.Command(binary, "--sockets", sockets, "--ca", filepath.Join(place, "ca.pem"), "--control", control)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user, Pdeathsig: syscall.SIGKILL}
				said, err := cmd.StderrPipe()
				must(t, err)
				must(t, cmd.Start())
				line, _ := bufio.NewReader(said).ReadString('\n')
				if !strings.Contains(line, "ready") {
					t.Errorf("it said %q", line)
				}
				factory, err := capture.DialFactory(t.Context(), sockets)
				must(t, err)
				conn, err := factory.DialTCP(t.Context(), netip.Addr{}, netip.MustParseAddrPort("[2a00:1450:4001:82a::200a]:443"))
				if err != nil {
					t.Error(err)
				} else {
					conn.Close()
				}
				factory.Close()
				deadline := time.Now().Add(patience)
				for { // a connection is there before the server accepted it
					records, err := Control{control}.Records(t.Context(), "www.googleapis.com", Connection)
					must(t, err)
					if len(records) == 1 {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("connections: %v", records)
					}
					time.Sleep(time.Millisecond)
				}
				inside := childOf(t, cmd.Process.Pid)
				cmd.Process.Signal(end)
				err = cmd.Wait()
				if end == syscall.SIGTERM {
					if err != nil {
						t.Errorf("it ended with %v", err)
					}
					if left, _ := os.ReadDir(place); len(left) != 0 {
						t.Errorf("left behind: %v", left)
					}
				}
				for alive(inside) {
					if time.Now().After(deadline) {
						t.Fatalf("process %s lives on", inside)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
}

// childOf returns the process in the namespace.
func childOf(t *testing.T, parent int) string {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		if text, _ := os.ReadFile(task); len(text) > 0 {
			return strings.Fields(string(text))[0]
		}
	}
	t.Fatal("it has no process in a namespace")
	return ""
}

// alive is false for a process that is gone, or that waits to be reaped.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

func TestRecordsAreBounded(t *testing.T) {
	var l log
	for range maxRecords + 1 {
		l.add(Record{})
	}
	if n := len(l.all()); n != maxRecords/2+1 {
		t.Errorf("%d records", n)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		n, err := New(b.Context(), Config{Sockets: filepath.Join(dir, "s"), CA: filepath.Join(dir, "ca"), Control: filepath.Join(dir, "c")})
		if err != nil {
			b.Fatal(err)
		}
		n.Close()
	}
}
