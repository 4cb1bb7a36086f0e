package proxy

import (
	"crypto/tls"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/egress"
)

// What a proxy says of itself is what it did: handshakes by what came of them, the pool that
// holds the connection, the certificate that it showed, and the rules of its workload.
func TestAProxySaysWhatItDid(t *testing.T) {
	n := newFakeNet(t)
	folder := n.identities("bob")
	certificates, err := egress.OpenCertificates(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.changes = append(n.changes, func(c *Config) { c.Certificates = certificates })
	n.site("partner.example.com", "93.184.216.34", 443, n.toldWho("partner.example.com", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: tls.VersionTLS12}))
	m := newMesh(t, n, shows(t, "partner.example.com", ""))
	if before := m.proxy.Stats(); before.Handshakes != (HandshakeStats{}) || before.Pools != 0 || !before.Certificate.IsZero() || len(before.Workloads) != 1 {
		t.Errorf("before anything: %+v", before)
	}
	if status, _, _ := m.asks("partner.example.com"); status != 502 {
		t.Errorf("without a certificate the handshake is answered with %d", status)
	}
	if of := m.proxy.Stats().Handshakes; of.Failed == 0 || of.Done != 0 {
		t.Errorf("after a handshake that failed: %+v", of)
	}
	m.allow(shows(t, "partner.example.com", "bob"))
	if status, reason, body := m.asks("partner.example.com"); status != 200 {
		t.Fatalf("%d %s %q", status, reason, body)
	}
	s := m.proxy.Stats()
	if s.Handshakes.Done != 1 || s.Pools != 1 {
		t.Errorf("after one that was done: %+v", s)
	}
	if left := time.Until(s.Certificate); left < 30*time.Minute || left > time.Hour {
		t.Errorf("the certificate of an hour is said to hold for %v", left)
	}
	m.proxy.Close()
	if s := m.proxy.Stats(); s.Pools != 0 || len(s.Workloads) != 0 {
		t.Errorf("after its end: %+v", s)
	}
}
