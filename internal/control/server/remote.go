package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/inspect"
)

// Files in the data folder.
const (
	authorityFile = "api-ca.pem"    // the certificate authority of the API over TCP
	historyFile   = "history.jsonl" // who changed what
)

// CheckAPIListen says what is wrong with an address of Config.APIListen.
func CheckAPIListen(address string) error {
	if address == "" {
		return nil
	}
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsValid() {
		return nil
	}
	return fmt.Errorf("%q must be an IP address with a port, as in 127.0.0.1:15010, or 0.0.0.0:15010 for every address of this machine", address)
}

// openAuthority opens the certificate authority of the API over TCP, where it is served.
func (s *Server) openAuthority() (err error) {
	if s.config.APIListen == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(s.config.APIListen)
	if err != nil {
		return CheckAPIListen(s.config.APIListen)
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if !at.Addr().IsLoopback() && !at.Addr().IsUnspecified() {
		hosts = append(hosts, at.Addr().WithZone("").String())
	}
	s.authority, err = authority.Open(filepath.Join(s.config.DataDir, authorityFile), hosts, time.Now)
	return err
}

// handler answers the requests below /sluice/.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(inspect.HistoryPath, inspect.NewHistoryHandler(s.history.Of))
	mux.Handle(inspect.CredentialPath, inspect.NewCredentialHandler(s.issue))
	mux.Handle("/sluice/", s.plane.Handler())
	return mux
}

// issue issues a client certificate. The rule API lets nobody ask for one but on
// api.sock: else a credential could be prolonged for ever, by whomever has it.
func (s *Server) issue(request inspect.CredentialRequest) (inspect.Credential, error) {
	if s.authority == nil {
		return inspect.Credential{}, errors.New("the API is not served on a port: start sluice-server with --api-listen 127.0.0.1:15010")
	}
	certificate, expires, err := s.authority.Issue([]byte(request.Request), request.Name, request.Role, request.Lifetime)
	if err != nil {
		return inspect.Credential{}, err
	}
	s.config.Log.Info("issued a credential", "who", request.Name, "role", request.Role, "expires", expires.UTC().Format(time.RFC3339))
	address := s.api.Address()
	// Of every address of this machine, the one that everybody on it reaches.
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsUnspecified() {
		address = net.JoinHostPort("127.0.0.1", fmt.Sprint(at.Port()))
	}
	return inspect.Credential{
		Address: address, ServerName: authority.ServerName, CA: string(s.authority.CA()),
		Certificate: string(certificate), Expires: expires.UTC(),
	}, nil
}

// APIAddress is where the API is served over TLS; "" where it is not.
func (s *Server) APIAddress() string { return s.api.Address() }
