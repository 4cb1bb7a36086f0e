package rest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/paths"
)

// byKubeconfig is what to do where a server is reached over TLS.
const byKubeconfig = "write a file with sluice kubeconfig on its machine, and name it here: --kubeconfig FILE"

// address is where a server is reached.
type address struct {
	network string      // "unix" or "tcp"
	at      string      // a path, or host:port
	host    string      // what stands in URLs
	tls     *tls.Config // of a kubeconfig; nil: in the clear, on this machine
}

// scheme is that of URLs.
func (a *address) scheme() string {
	if a.tls != nil {
		return "https"
	}
	return "http"
}

// Endpoint is what an address of --server means.
type Endpoint struct {
	Network, At string      // what is to be dialled: "unix" with a path, or "tcp" with a host and port
	URL         string      // the scheme and host of its URLs
	TLS         *tls.Config // nil: none
	Namespace   string      // where no other is given

	address address
}

// Explain says of the error of a request what to do next, in the words of every command.
func (e *Endpoint) Explain(err error) error { return e.address.explain(err) }

// Resolve reads an address of --server as every command does.
func Resolve(server string) (Endpoint, error) {
	found, err := resolve(server)
	if err != nil {
		return Endpoint{}, err
	}
	return Endpoint{found.network, found.at, found.scheme() + "://" + found.host, found.tls, Namespace(server), found}, nil
}

// Namespace returns the one that a kubeconfig of --server names, else the default. What
// is wrong with the file, Resolve says.
func Namespace(server string) string {
	if namesFile(server) {
		if config, err := ReadKubeconfig(server); err == nil {
			return config.Namespace
		}
	}
	return api.DefaultNamespace
}

// namesFile reports whether an address of --server is a kubeconfig. What reads as another
// address never is, or a file in the current folder could take its place.
func namesFile(server string) bool {
	if _, err := addrPort(server); err == nil || strings.Contains(server, "://") || strings.HasPrefix(server, "unix:") {
		return false
	}
	return IsFile(server)
}

// FileAddress is the address of --server that means a file, whatever its name.
func FileAddress(path string) (string, error) {
	if namesFile(path) {
		return path, nil
	}
	return filepath.Abs(path)
}

// addrPort reads an address with a port, or localhost with one.
func addrPort(text string) (netip.AddrPort, error) {
	if port, found := strings.CutPrefix(text, "localhost:"); found {
		text = "127.0.0.1:" + port
	}
	return netip.ParseAddrPort(text)
}

// resolve reads an address of --server: a unix socket ("unix:PATH", "/PATH"), a
// runtime folder that holds api.sock, a file that "sluice kubeconfig" wrote, or a
// loopback address with a port on which somebody else serves api.sock in the clear
// ("127.0.0.1:8001", "http://[::1]:8001"). The empty one is api.sock in the
// default runtime folder, which must be nobody else's: in /tmp anybody could
// have made it first.
func resolve(server string) (address, error) {
	switch {
	case server == "":
		runtime := paths.Runtime("")
		if err := paths.Check(runtime); err != nil && !errors.Is(err, os.ErrNotExist) {
			return address{}, err
		}
		return inFolder(runtime)
	case namesFile(server):
		config, err := ReadKubeconfig(server)
		if err != nil {
			return address{}, err
		}
		return address{network: "tcp", at: config.At, host: config.At, tls: config.TLS}, nil
	case strings.HasPrefix(server, "unix:"):
		return socket(strings.TrimPrefix(strings.TrimPrefix(server, "unix:"), "//"))
	case strings.HasPrefix(server, "http://"):
		u, err := url.Parse(server)
		if err != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
			return address{}, fmt.Errorf("server %q must look like http://127.0.0.1:8001", server)
		}
		return loopback(server, u.Host)
	case strings.HasPrefix(server, "https://"):
		return address{}, fmt.Errorf("server %q: over TLS a client certificate is needed; %s", server, byKubeconfig)
	case strings.Contains(server, "://"):
		return address{}, fmt.Errorf("server %q: only unix sockets and http:// on a loopback address are supported yet", server)
	case strings.ContainsRune(server, '/') || server == "." || server == "..":
		return socket(server)
	}
	return loopback(server, server)
}

// socket takes the path of a socket, or of the folder that holds it.
func socket(path string) (address, error) {
	if path == "" {
		return address{}, errors.New("server unix: names no path")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return address{}, fmt.Errorf("server %s: %w", path, err)
	}
	if info, err := os.Stat(absolute); err == nil && info.IsDir() {
		return inFolder(absolute)
	}
	return inFolder(filepath.Dir(absolute), filepath.Base(absolute))
}

// inFolder is a socket of a runtime folder, api.sock unless it is named.
func inFolder(folder string, name ...string) (address, error) {
	base := paths.APISocket
	if len(name) > 0 {
		base = name[0]
	}
	at, err := paths.Socket(folder, base)
	if err != nil {
		return address{}, err
	}
	return address{network: "unix", at: at, host: "sluice"}, nil
}

// loopback takes an address of this machine. Without TLS and a login nothing
// beyond it is spoken to.
func loopback(server, hostport string) (address, error) {
	at, err := addrPort(hostport)
	if err != nil || at.Port() == 0 {
		return address{}, fmt.Errorf("server %q must be a unix socket, a runtime folder, a file of sluice kubeconfig, or a loopback address with a port such as 127.0.0.1:8001", server)
	}
	if !at.Addr().IsLoopback() {
		return address{}, fmt.Errorf("server %q is another machine's, which is spoken to over TLS alone: %s", server, byKubeconfig)
	}
	return address{network: "tcp", at: at.String(), host: at.String()}, nil
}
