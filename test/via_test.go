package test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/test/mesh"
)

// companyProxy is an HTTP proxy whose other side is the small internet.
type companyProxy struct {
	at    string
	login string // Basic; "" asks for none

	factory  *capture.Factory
	resolver *resolve.Resolver

	mu    sync.Mutex
	asked []string          // what CONNECT named
	leads map[string]string // where a name leads, in place of what the internet says
}

func (a *alone) companyProxy(t *testing.T, login string) *companyProxy {
	t.Helper()
	factory, err := capture.DialFactory(t.Context(), a.net.Sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { factory.Close() })
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: factory, Servers: []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:53")}})
	t.Cleanup(resolver.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &companyProxy{at: listener.Addr().String(), login: login, factory: factory, resolver: resolver, leads: make(map[string]string)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn.(*net.TCPConn))
		}
	}()
	return p
}

func (p *companyProxy) serve(conn *net.TCPConn) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	leads := p.leads[r.RequestURI]
	p.mu.Unlock()
	if user, password, _ := proxyLogin(r); p.login != "" && user+":"+password != p.login {
		io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"company\"\r\n\r\n")
		return
	}
	up, err := p.dial(leads, r.RequestURI)
	if err != nil {
		io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\n\r\n")
		return
	}
	defer up.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, conn)
		up.CloseWrite()
	}()
	io.Copy(conn, up)
	conn.CloseWrite()
	<-done
}

// proxyLogin reads Proxy-Authorization as net/http reads Authorization.
func proxyLogin(r *http.Request) (user, password string, ok bool) {
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return as.BasicAuth()
}

func (p *companyProxy) dial(leads, target string) (*net.TCPConn, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	if leads != "" {
		host = leads
	}
	if _, err := netip.ParseAddr(host); err != nil {
		name, err := names.Parse(host)
		if err != nil {
			return nil, err
		}
		addrs, err := p.resolver.Lookup(context.Background(), name, nil)
		if err != nil {
			return nil, err
		}
		host = addrs[slices.IndexFunc(addrs, netip.Addr.Is4)].String()
	}
	return p.factory.DialTCP(context.Background(), netip.Addr{}, netip.MustParseAddrPort(net.JoinHostPort(host, port)))
}

// seen returns what was asked for since the last call.
func (p *companyProxy) seen() (asked []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, p.asked = p.asked, nil
	return asked
}

func (p *companyProxy) lead(target, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leads[target] = address
}

// noDNS is a DNS server that must not be asked: it counts.
func noDNS(t *testing.T) (address string, asked func() int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var mu sync.Mutex
	n := 0
	go func() {
		for buffer := make([]byte, 512); ; {
			if _, _, err := conn.ReadFrom(buffer); err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
		}
	}()
	return conn.LocalAddr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// through runs a command whose connections leave through a proxy; ours, of the machine,
// leads nowhere.
func (a *alone) through(t *testing.T, p *companyProxy, env []string, args ...string) mesh.Result {
	t.Helper()
	dns, _ := noDNS(t)
	cmd := a.Command(t.Context(), "sluice", append([]string{"run", "--upstream-ca", a.net.CA, "--resolver", dns}, args...)...)
	cmd.Env = append(cmd.Env, env...)
	return mesh.Finish(t, cmd, "")
}

func TestAllLeavesThroughTheProxyByNameAndIsProvedThroughTheTunnel(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		p := a.companyProxy(t, "")
		dns, questions := noDNS(t)
		run := func(allow, url string) mesh.Result {
			return a.Sluice(t, "run", "--upstream-ca", a.net.CA, "--resolver", dns, "--via-proxy=http://"+p.at, "--allow", allow, "--", a.curl, "-sS", "--max-time", "60", "--cacert", a.net.CA, url)
		}
		if r := run("www.googleapis.com", "https://www.googleapis.com"+books); r.Code != 0 || !strings.Contains(r.Stdout, "volumeInfo") {
			t.Errorf("TLS: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if got := p.seen(); len(got) != 2 || got[0] != "CONNECT www.googleapis.com:443" || got[1] != got[0] {
			t.Errorf("the proxy was asked for %q, want the name, for the proof and for the connection", got)
		}
		if r := run("www.googleapis.com:80", "http://www.googleapis.com"+books); r.Code != 0 || !strings.Contains(r.Stdout, "volumeInfo") {
			t.Errorf("plain HTTP: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if got := p.seen(); len(got) != 1 || got[0] != "CONNECT www.googleapis.com:80" {
			t.Errorf("for plain HTTP the proxy was asked for %q", got)
		}

		// What is denied never reaches the proxy.
		if r := run("www.googleapis.com", "https://"+hostile+"/"); r.Code != 35 || !strings.Contains(r.Stderr, "denied "+hostile) {
			t.Errorf("denied: exit %d, %q", r.Code, r.Stderr)
		}
		if r := run("*", "https://"+hostile4+"/"); r.Code != 35 {
			t.Errorf("an address that no rule names: exit %d, %q", r.Code, r.Stderr)
		}
		if got := p.seen(); len(got) != 0 {
			t.Errorf("for what is denied the proxy was asked for %q", got)
		}

		// A proxy that leads elsewhere cannot show the certificate of the name.
		p.lead("www.googleapis.com:443", hostile4)
		r := run("www.googleapis.com", "https://www.googleapis.com/secret")
		if r.Code != 35 || !strings.Contains(r.Stderr, "the server behind proxy "+p.at+" did not prove to be www.googleapis.com") {
			t.Errorf("a proxy that leads elsewhere: exit %d, %q", r.Code, r.Stderr)
		}
		if n := len(a.net.Requests(t, hostile)); n != 0 {
			t.Errorf("the hostile server got %d requests", n)
		}
		if n := questions(); n != 0 {
			t.Errorf("our own DNS was asked %d times", n)
		}
	})
}

func TestATCPRuleLeavesThroughTheProxyThoughTheServerSpeaksFirst(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		p := a.companyProxy(t, "")
		cmd := []string{"--via-proxy=http://" + p.at, "--allow", "db.example.com:3306/tcp", "--", "bash", "-c", `exec 3<>/dev/tcp/db.example.com/3306; head -c 1 <&3 | wc -c`}
		r := a.through(t, p, nil, cmd...)
		if got := p.seen(); r.Stdout != "1\n" || len(got) != 1 || got[0] != "CONNECT db.example.com:3306" {
			t.Errorf("the proxy was asked for %q: exit %d, %q %q", got, r.Code, r.Stdout, r.Stderr)
		}
	})
}

// The proxy of the environment is not passed in, however it is called, and its
// credentials are seen neither inside nor in any word of ours.
func TestTheProxyOfTheEnvironmentAndItsCredentialsStayOutside(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		p := a.companyProxy(t, "user:geheim")
		env := []string{"HTTPS_PROXY=http://user:geheim@" + p.at, "no_proxy=nothing.example.com", "npm_config_proxy=http://user:geheim@" + p.at, "MAVEN_OPTS=-Xmx1g -Dhttp.proxyPassword=geheim"}
		const look = `env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\0' '\n'; true`
		r := a.through(t, p, env, "--", "sh", "-c", look)
		if strings.Contains(r.Stdout, "geheim") || strings.Contains(strings.ToLower(r.Stdout), "_proxy=") || !strings.Contains(r.Stdout, "MAVEN_OPTS=-Xmx1g\n") {
			t.Errorf("inside: %q", r.Stdout)
		}
		const line = "sluice: HTTPS_PROXY, MAVEN_OPTS (its proxy), no_proxy and npm_config_proxy are not passed in: the command reaches what the rules allow without; with --via-proxy all of that leaves through the proxy of the environment\n"
		if r.Stderr != line {
			t.Errorf("standard error says %q, want %q", r.Stderr, line)
		}

		get := []string{"--allow", "www.googleapis.com", "--", "sh", "-c", a.curl + ` -sS --max-time 60 --cacert ` + a.net.CA + ` https://www.googleapis.com` + books + `; ` + look}
		r = a.through(t, p, env, append([]string{"--via-proxy", "-v"}, get...)...)
		if !strings.Contains(r.Stdout, "volumeInfo") || strings.Contains(r.Stdout+r.Stderr, "geheim") || !strings.Contains(r.Stderr, "all leaves through proxy "+p.at+" (HTTPS_PROXY), which resolves the names: private answers cannot be judged here") {
			t.Errorf("by the environment: %q, %q", r.Stdout, r.Stderr)
		}
		r = a.through(t, p, []string{"SLUICE_VIA_PROXY=http://user:geheim@" + p.at}, get...)
		if !strings.Contains(r.Stdout, "volumeInfo") || strings.Contains(r.Stdout+r.Stderr, "geheim") {
			t.Errorf("by SLUICE_VIA_PROXY: %q, %q", r.Stdout, r.Stderr)
		}

		file := filepath.Join(filepath.Dir(a.Runtime), "login")
		a.write(t, file, "user:geheim\n", 0o600)
		get[len(get)-1] += "; cat " + file
		r = a.through(t, p, nil, append([]string{"--via-proxy=http://" + p.at, "--via-proxy-credentials", file}, get...)...)
		if !strings.Contains(r.Stdout, "volumeInfo") || strings.Contains(r.Stdout+r.Stderr, "geheim") {
			t.Errorf("by a file: %q, %q", r.Stdout, r.Stderr)
		}
		r = a.through(t, p, nil, append([]string{"--via-proxy=http://" + p.at}, get...)...)
		if !strings.Contains(r.Stderr, "wants credentials: it takes Basic; give them by --via-proxy-credentials FILE") {
			t.Errorf("without credentials: %q", r.Stderr)
		}
	})
}

// write makes a file of the place's user.
func (a *alone) write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if a.User.UID >= 0 {
		if err := os.Chown(file, a.User.UID, a.User.UID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheLevelSaysThatAProxyResolvesAndARequiredOneIsRefused(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		ran := filepath.Join(filepath.Dir(a.Runtime), "ran")
		r := a.Sluice(t, "run", "--via-proxy=http://127.0.0.1:3128", "--require-level", "sandbox", "--", "touch", ran)
		if r.Code != 125 || !strings.Contains(r.Stderr, "private answers cannot be judged here") {
			t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("the command ran")
		}
		report := filepath.Join(filepath.Dir(a.Runtime), "report.jsonl")
		a.Sluice(t, "run", "--via-proxy=http://127.0.0.1:3128", "--report", report, "--", "true")
		if text, err := os.ReadFile(report); err != nil || !strings.Contains(string(text), `"lowered":["all leaves through proxy 127.0.0.1:3128`) {
			t.Errorf("the report says %q, %v", text, err)
		}
	})
}

func TestAClientLearnsThatItWasTheProxy(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		p := a.companyProxy(t, "user:geheim")
		get := func(at string) mesh.Result {
			return a.Sluice(t, "run", "--via-proxy=http://"+at, "--allow", "www.example.com:80", "--", a.curl, "-sS", "-D-", "--max-time", "60", "http://www.example.com/")
		}
		for at, want := range map[string]string{p.at: "via-proxy-authentication", "127.0.0.1:1": "via-proxy-unreachable"} {
			r := get(at)
			if !strings.Contains(r.Stdout, "HTTP/1.1 502 ") || !strings.Contains(r.Stdout, "x-sluice-reason: "+want) || !strings.Contains(r.Stdout, "proxy "+at) ||
				!strings.Contains(r.Stderr, "not reached www.example.com:80 (proxy "+at) {
				t.Errorf("%s: %q, %q", want, r.Stdout, r.Stderr)
			}
		}
	})
}

// Two proxies that are in use in companies, on this machine's loopback.
func TestSquidAndTinyproxyCarryWhatIsAllowed(t *testing.T) {
	for _, of := range []struct{ program, config string }{
		{"squid", "http_port 127.0.0.1:PORT\nhosts_file DIR/hosts\npid_filename none\ncache_log /dev/null\naccess_log none\ncache deny all\npinger_enable off\nnetdb_filename none\ncoredump_dir DIR\nhttp_access allow all\nshutdown_lifetime 0 seconds\n"},
		{"tinyproxy", "Port PORT\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\nConnectPort ORIGIN\n"},
	} {
		t.Run(of.program, func(t *testing.T) {
			program, err := exec.LookPath(of.program)
			if err != nil {
				if program, err = exec.LookPath("/usr/sbin/" + of.program); err != nil {
					t.Skipf("%s is missing", of.program)
				}
			}
			place := mesh.NewPlace(t, mesh.User{Name: "root", UID: -1})
			address := ownAddress(t)
			origin, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
			if err != nil {
				t.Fatal(err)
			}
			go http.Serve(origin, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello from "+r.Host) }))
			t.Cleanup(func() { origin.Close() })
			_, port, _ := net.SplitHostPort(origin.Addr().String())

			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			at := free.Addr().String()
			free.Close()
			dir := filepath.Dir(place.Runtime) // which the proxy's own user may read
			_, own, _ := net.SplitHostPort(at)
			config := strings.NewReplacer("PORT", own, "DIR", dir, "ORIGIN", port)
			for name, text := range map[string]string{"hosts": address + " www.company.test\n", "conf": strings.ReplaceAll(config.Replace(of.config), "Connect"+own, "ConnectPort")} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			args := map[string][]string{"squid": {"-N", "-f", filepath.Join(dir, "conf")}, "tinyproxy": {"-d", "-c", filepath.Join(dir, "conf")}}[of.program]
			place.Background(t, nil, program, args...)
			mesh.Eventually(t, func() string {
				conn, err := net.Dial("tcp", at)
				if err != nil {
					return err.Error()
				}
				conn.Close()
				return ""
			})
			// tinyproxy knows no file of hosts of its own: an address stands for the name.
			host := map[string]string{"squid": "www.company.test", "tinyproxy": address}[of.program]
			target := net.JoinHostPort(host, port)
			r := place.Sluice(t, "run", "--via-proxy=http://"+at, "--allow", target+"/http", "--", "curl", "-sS", "--max-time", "60", "http://"+target+"/")
			if r.Code != 0 || r.Stdout != "hello from "+target {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			r = place.Sluice(t, "run", "--via-proxy=http://"+at, "--allow", host+":1/tcp", "--", "curl", "-sS", "--max-time", "60", "telnet://"+host+":1")
			if !strings.Contains(r.Stderr, "proxy "+at) || !strings.Contains(r.Stderr, "not reached "+host+":1") {
				t.Errorf("a port where nobody listens: exit %d, %q", r.Code, r.Stderr)
			}
		})
	}
}

// ownAddress is an address of this machine that is not its loopback's, which clients never
// go to through a proxy.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLoopback() {
			return prefix.Addr().String()
		}
	}
	t.Skip("this machine has no address but its loopback's")
	return ""
}
