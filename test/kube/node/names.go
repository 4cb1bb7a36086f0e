package node

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Names of the small internet beside its websites: answers at each of their addresses.
const (
	Firsts    = 200 // names that share one address
	ManyNames = 10  // names of which each has ManyOf addresses
	ManyOf    = 1000
	manyNet   = "45.33.32.0/22"
)

// Shared are names that all have one address.
func Shared() (names []string) {
	for i := range Firsts {
		names = append(names, fmt.Sprintf("n%d.shared.example.org", i))
	}
	return names
}

// Many are names that have ManyOf addresses each, all of them the same.
func Many() (names []string) {
	for i := range ManyNames {
		names = append(names, fmt.Sprintf("n%d.many.example.org", i))
	}
	return names
}

// lines are those of a file of hosts, for CoreDNS.
func lines(hosts map[string]string) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(&out, "%s %s\n", hosts[name], name)
	}
	for _, name := range Shared() {
		fmt.Fprintf(&out, "45.33.32.156 %s\n", name)
	}
	for _, name := range Many() {
		for i := range ManyOf {
			fmt.Fprintf(&out, "45.33.%d.%d %s\n", 32+i/250, 1+i%250, name)
		}
	}
	return out.String()
}

// serveNames answers 200 on port 80 of every address of Shared and Many, until the process ends.
func serveNames() error {
	if out, err := exec.Command("ip", "route", "add", "local", manyNet, "dev", "lo").CombinedOutput(); err != nil {
		return fmt.Errorf("the addresses of names: %w: %s", err, out)
	}
	listener, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Host)
	})}
	go func() { _ = server.Serve(listener) }() // until the process ends
	return nil
}
