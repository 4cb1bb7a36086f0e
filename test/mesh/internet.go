package mesh

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"sluice.dev/sluice/test/simnet"
)

// Internet is a small internet that runs as the place's user, as a process of its
// own.
type Internet struct {
	Sockets, CA string
	Control     simnet.Control
}

// StartInternet starts one and waits until it is ready.
func (p *Place) StartInternet(t testing.TB) *Internet {
	t.Helper()
	dir := filepath.Dir(p.Runtime)
	n := &Internet{
		Sockets: filepath.Join(p.Runtime, "internet.sock"), CA: filepath.Join(p.Data, "internet-ca.pem"),
		Control: simnet.Control{Path: filepath.Join(p.Runtime, "internet-control.sock")},
	}
	// The CA is read by curl inside sandboxes, in which the data folder is masked.
	n.CA = filepath.Join(dir, "ca", "internet-ca.pem")
	if err := os.Mkdir(filepath.Dir(n.CA), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(n.CA), 0o777); err != nil {
		t.Fatal(err)
	}
	p.Background(t, nil, "simnet", "--sockets", n.Sockets, "--ca", n.CA, "--control", n.Control.Path)
	Eventually(t, func() string {
		for _, file := range []string{n.Sockets, n.CA, n.Control.Path} {
			if _, err := os.Stat(file); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	return n
}

// Internet is the demo's own small internet.
func (d *Demo) Internet() *Internet {
	return &Internet{
		Sockets: filepath.Join(d.Runtime, "demo", "internet.sock"),
		Control: simnet.Control{Path: filepath.Join(d.Runtime, "demo", "internet-control.sock")},
	}
}

// Requests returns how many HTTP requests the server of a site got.
func (n *Internet) Requests(t testing.TB, server string) []simnet.Record {
	return n.records(t, server, simnet.Request)
}

// Handshakes returns the TLS handshakes that the server of a site saw.
func (n *Internet) Handshakes(t testing.TB, server string) []simnet.Record {
	return n.records(t, server, simnet.Handshake)
}

// Connections returns the connections that the server of a site took.
func (n *Internet) Connections(t testing.TB, server string) []simnet.Record {
	return n.records(t, server, simnet.Connection)
}

func (n *Internet) records(t testing.TB, server string, kind simnet.Kind) []simnet.Record {
	t.Helper()
	records, err := n.Control.Records(context.Background(), server, kind)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// Lie makes the resolver lie about a name.
func (n *Internet) Lie(t testing.TB, name string, addrs ...string) {
	t.Helper()
	if err := n.Control.Lie(context.Background(), name, addrs...); err != nil {
		t.Fatal(err)
	}
}

// Publish gives a name an address of the internet; its server listens outside, on a
// unix socket that the place's user may connect to.
func (n *Internet) Publish(t testing.TB, name string, port uint16, socket string) {
	t.Helper()
	if err := n.Control.Publish(context.Background(), name, port, socket); err != nil {
		t.Fatal(err)
	}
}

// Certificate is the certificate of a published name with its key, PEM.
func (n *Internet) Certificate(t testing.TB, name string) []byte {
	t.Helper()
	pair, err := n.Control.Certificate(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Reset makes the internet honest again and forgets what it saw.
func (n *Internet) Reset(t testing.TB) {
	t.Helper()
	if err := n.Control.Reset(context.Background()); err != nil {
		t.Fatal(err)
	}
}
