//go:build linux

package cli

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/rest"
)

// runtimeOf returns the runtime folder that --server of run names, in the words that
// --server has everywhere: the folder, or the socket of the server in it. A proxy is
// reached by a socket beside that, so an address with a port names none.
func runtimeOf(server string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(server, "unix:"), "//")
	if server != "" && path == "" {
		return "", fmt.Errorf("--server %s names no path", server)
	}
	_, err := netip.ParseAddrPort(strings.Replace(server, "localhost:", "127.0.0.1:", 1))
	if err == nil || strings.Contains(server, "://") && !strings.HasPrefix(server, "unix:") {
		return "", fmt.Errorf("--server %s: to join a mesh takes the runtime folder of its server on this machine, or api.sock in it: the proxy is reached there", server)
	}
	if rest.IsFile(path) {
		return "", fmt.Errorf("--server %s: to join a mesh takes the runtime folder of its server on this machine, not a kubeconfig", server)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		path = filepath.Dir(path)
	}
	return paths.Runtime(path), nil
}
