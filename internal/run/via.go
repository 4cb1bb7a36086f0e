package run

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/tunnel"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/sandbox"
)

// ViaVariable is the variable that stands in place of --via-proxy. It may hold
// credentials, and is not passed in.
const ViaVariable = "SLUICE_VIA_PROXY"

// viaVariables are where --via-proxy without a value looks, in this order: all leaves by
// CONNECT, which clients do for https.
var viaVariables = []string{ViaVariable, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"}

// maxCredentials bounds the file of credentials.
const maxCredentials = 4 << 10

// Via is the proxy outside that all of the command leaves through.
type Via struct {
	host    string
	port    uint16
	secure  bool
	from    string // the variable that named it; "" for the flag
	login   string // user:password; "" for none
	file    string // with the login, hidden from the command; "" for none
	noProxy string
}

// ParseVia reads --via-proxy: a URL, or "" for the environment's, and the file of
// credentials, "" for none. No error shows more of a URL than its scheme.
func ParseVia(text, file string, getenv func(string) string) (*Via, error) {
	v := new(Via)
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		if v.noProxy = getenv(name); v.noProxy != "" {
			break
		}
	}
	source := "--via-proxy"
	if text == "" {
		for _, name := range viaVariables {
			if text = getenv(name); text != "" {
				v.from, source = name, name
				break
			}
		}
		if text == "" {
			return nil, fmt.Errorf("--via-proxy without a value takes the proxy of the environment, and none of %s is set; write --via-proxy=http://HOST:PORT", listed(viaVariables))
		}
	}
	if err := v.parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if v.login != "" && v.from == "" {
		return nil, fmt.Errorf("--via-proxy takes no credentials, for flags can be read by everybody: give a file with user:password by --via-proxy-credentials, or set %s to the whole URL and leave the flag out", ViaVariable)
	}
	if file == "" {
		return v, nil
	}
	if err := v.read(file); err != nil {
		return nil, fmt.Errorf("--via-proxy-credentials: %w", err)
	}
	return v, nil
}

// parse reads [http://|https://][USER:PASSWORD@]HOST[:PORT][/].
func (v *Via) parse(text string) error {
	if !strings.Contains(text, "://") {
		text = "http://" + text // as clients take it
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("not a valid URL; write http://HOST:PORT or https://HOST:PORT")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("a proxy of %q is not supported: http and https are, by CONNECT", u.Scheme)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return errors.New("a proxy has no path, query or fragment; write http://HOST:PORT or https://HOST:PORT")
	}
	host, err := names.ParseHost(u.Host)
	if err != nil || host.IsZero() {
		return errors.New("it names no valid HOST[:PORT]")
	}
	if v.host = host.Name.String(); host.Name.IsZero() {
		v.host = host.Addr.String()
	}
	v.secure, v.port = u.Scheme == "https", cmp.Or(host.Port, 80)
	if v.secure {
		v.port = cmp.Or(host.Port, 443)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		return v.setLogin(u.User.Username() + ":" + password)
	}
	return nil
}

// setLogin takes user:password (RFC 7617).
func (v *Via) setLogin(login string) error {
	user, _, found := strings.Cut(login, ":")
	switch {
	case !found || user == "":
		return errors.New("its credentials are not user:password")
	case strings.ContainsFunc(login, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("its credentials hold a control character")
	}
	v.login = login
	return nil
}

// read takes the credentials of a file.
func (v *Via) read(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", name)
	case info.Mode()&0o007 != 0:
		return fmt.Errorf("everybody may read or change %s: take that away (chmod o= FILE)", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxCredentials:
		return fmt.Errorf("%s is larger than %d bytes", name, maxCredentials)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if err := v.setLogin(line); err != nil {
		return fmt.Errorf("%s: %w; write user:password in one line", name, err)
	}
	if name, err = filepath.Abs(name); err == nil {
		v.file, err = filepath.EvalSymlinks(name)
	}
	return err
}

// String is the proxy as people may see it: without credentials.
func (v *Via) String() string {
	text := "proxy " + net.JoinHostPort(v.host, strconv.Itoa(int(v.port)))
	if v.from != "" {
		text += " (" + v.from + ")"
	}
	return text
}

// proxy makes it ready to be used.
func (v *Via) proxy(c *Config, sockets capture.Sockets, resolver *resolve.Resolver, roots *x509.CertPool) (*tunnel.Proxy, error) {
	config := tunnel.Config{
		Host: v.host, Port: v.port, Secure: v.secure, Roots: roots, Direct: v.direct(),
		Dial: func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
			return sockets.DialTCP(ctx, netip.Addr{}, to)
		},
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
	if len(c.Resolvers) > 0 {
		config.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			name, err := names.Parse(host)
			if err != nil {
				return nil, err
			}
			return resolver.Lookup(ctx, name, nil)
		}
	}
	if v.login != "" {
		config.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(v.login))
	}
	return tunnel.New(config)
}

// direct says what is reached without the proxy: what NO_PROXY says, read as most clients
// do, this machine's loopback, and the name of it.
func (v *Via) direct() func(host string, port uint16) bool {
	config := httpproxy.Config{HTTPSProxy: "http://proxy.invalid", NoProxy: v.noProxy}
	through := config.ProxyFunc()
	return func(host string, port uint16) bool {
		if host == rulefile.HostName.String() {
			return true
		}
		proxy, err := through(&url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))})
		return err == nil && proxy == nil
	}
}

// enforcement is what holds for the command of a box: a proxy that resolves names takes a
// part away.
func (c *Config) enforcement(box *sandbox.Sandbox) sandbox.Enforcement {
	e := box.Enforcement()
	if c.Via != nil {
		note := "all leaves through " + c.Via.String() + ", which resolves the names: private answers cannot be judged here"
		e.Notes, e.Lowered = append(e.Notes, note), append(e.Lowered, note)
	}
	return e
}
