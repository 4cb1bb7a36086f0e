package edge

import (
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// MaxCertificates bounds the certificates of one ingress, and MaxCertificateHosts the hosts of
// one of them.
const (
	MaxCertificates     = 256
	MaxCertificateHosts = 64
)

// Certificate is one that is shown to clients from outside. Two that are equal are the same.
type Certificate struct {
	Namespace string `json:"namespace"` // of the object that names it, and of the secret
	Secret    string `json:"secret"`
	// Clients says that a client must show a certificate too, which the secret's ca.crt proves.
	Clients bool `json:"clients,omitempty"`
}

// Proves reports whether who was shown the certificate has proved what a rule's Clients asks for.
func (c Certificate) Proves(clients string) bool {
	namespace, secret, _ := strings.Cut(clients, "/")
	return clients == "" || c.Clients && c.Namespace == namespace && c.Secret == secret
}

// Covers reports whether a certificate for hosts is shown to all that a rule of the host leads;
// "" is every host.
func Covers(hosts []string, host string) bool {
	if host == "" {
		return false
	}
	_, suffix, _ := strings.Cut(host, ".")
	return slices.Contains(hosts, host) || slices.Contains(hosts, "*."+suffix)
}

// Shown is for which hosts a certificate is shown; none: for the names that it holds.
type Shown struct {
	ID          string      `json:"id"` // of the object
	Certificate Certificate `json:"certificate"`
	Hosts       []string    `json:"hosts,omitempty"` // canonical; "*.x" is one label before x
}

// check says why it cannot be kept to.
func (s *Shown) check() error {
	switch {
	case s.Certificate.Namespace == "" || s.Certificate.Secret == "":
		return fmt.Errorf("a certificate of %s has no name", s.ID)
	case len(s.Hosts) > MaxCertificateHosts:
		return fmt.Errorf("a certificate of %s is for %d hosts; at most %d are taken", s.ID, len(s.Hosts), MaxCertificateHosts)
	}
	return nil
}

// certificates finds those of a Table.
type certificates struct {
	exact map[string]Certificate // by host
	wild  map[string]Certificate // by what stands behind the first label
	open  []Certificate          // for the names that they hold
}

func newCertificates(all []Shown) (certificates, error) {
	out := certificates{exact: make(map[string]Certificate), wild: make(map[string]Certificate)}
	if len(all) > MaxCertificates {
		return out, fmt.Errorf("an ingress of %d certificates; at most %d are taken", len(all), MaxCertificates)
	}
	for i := range all {
		if err := all[i].check(); err != nil {
			return out, err
		}
		for _, host := range all[i].Hosts {
			of := out.exact
			if suffix, wild := strings.CutPrefix(host, "*."); wild {
				of, host = out.wild, suffix
			}
			if _, taken := of[host]; !taken {
				of[host] = all[i].Certificate
			}
		}
		if len(all[i].Hosts) == 0 && !slices.Contains(out.open, all[i].Certificate) {
			out.open = append(out.open, all[i].Certificate)
		}
	}
	return out, nil
}

// CertificateOf returns the certificate that rules say for a host: of the exact name, else of
// its wildcard. ok is false where they say none: then one of Open may hold the name.
func (t *Table) CertificateOf(host names.Name) (c Certificate, ok bool) {
	if host.IsZero() {
		return Certificate{}, false
	}
	if c, ok = t.certificates.exact[host.String()]; ok {
		return c, true
	}
	_, suffix, _ := strings.Cut(host.String(), ".")
	c, ok = t.certificates.wild[suffix]
	return c, ok
}

// Open returns the certificates that are shown for the names that they hold. Nobody may change
// the slice.
func (t *Table) Open() []Certificate { return t.certificates.open }
