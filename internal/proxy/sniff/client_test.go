package sniff

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
)

// answer accepts one connection, reads its hello and refuses it. It returns where
// to connect to, and what was read.
func answer(t *testing.T, code AlertCode) (port string, seen chan Result) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.SetDeadline(time.Now().Add(time.Minute))
	seen = make(chan Result, 1)
	go func() {
		defer close(seen)
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		buf := new(Buffers).NewBuffer(nil)
		r, _, err := Read(context.Background(), c, buf, Limits{})
		buf.Release()
		if err != nil {
			t.Errorf("read: %v", err)
		}
		if err := Refuse(c, code); err != nil {
			t.Errorf("refuse: %v", err)
		}
		seen <- r
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, seen
}

func TestAGoClientIsToldTheAlert(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, code := range []AlertCode{AlertAccessDenied, AlertUnrecognizedName, AlertHandshakeFailure} {
			port, seen := answer(t, code)
			_, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "www.google.com", MaxVersion: version})
			var alert *net.OpError
			if !errors.As(err, &alert) || alert.Op != "remote error" || alert.Err.Error() != tls.AlertError(code).Error() {
				t.Errorf("version %x, alert %d: the client says %v", version, code, err)
			}
			if r := <-seen; r.Name.String() != "www.google.com" {
				t.Errorf("seen %+v", r)
			}
		}
	}
}

// TestOtherClientsAreReadAndToldTheAlert runs those of other TLS libraries that
// this machine has.
func TestOtherClientsAreReadAndToldTheAlert(t *testing.T) {
	for name, c := range map[string]struct {
		command []string // PORT stands for the port
		sni     string
		alpn    string
		says    string // of the alert: a client that only timed out would not
	}{
		"curl": {[]string{"curl", "-sS", "--noproxy", "*", "--max-time", "10", "--resolve", "www.google.com:PORT:127.0.0.1", "https://www.google.com:PORT/"},
			"www.google.com", "http/1.1", "access denied"},
		"openssl with TLS 1.3": {[]string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "a.example", "-alpn", "h2", "-tls1_3"},
			"a.example", "h2", "access denied"},
		"openssl with TLS 1.2": {[]string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "a.example", "-alpn", "h2", "-tls1_2"},
			"a.example", "h2", "access denied"},
		"openssl without a name": {[]string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-noservername", "-alpn", "h2"},
			"", "h2", "access denied"},
		"wget":    {[]string{"wget", "--no-proxy", "-O-", "--tries=1", "--timeout=10", "https://localhost:PORT/"}, "localhost", "", ""},
		"python3": {[]string{"python3", "-c", "import ssl,socket; ssl.create_default_context().wrap_socket(socket.create_connection(('127.0.0.1',PORT)), server_hostname='a.example')"}, "a.example", "", "ACCESS_DENIED"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skipf("there is no %s here", c.command[0])
			}
			port, seen := answer(t, AlertAccessDenied)
			args := make([]string, len(c.command))
			for i, arg := range c.command {
				args[i] = strings.ReplaceAll(arg, "PORT", port)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, args[0], args[1:]...)
			output, err := command.CombinedOutput()
			if err == nil {
				t.Errorf("it ended well: %s", output)
			}
			r, ok := <-seen
			if !ok || r.Kind != policy.ClientHello || r.Err != nil || r.SNI != c.sni || r.SNIBad {
				t.Errorf("seen %+v", r)
			}
			if c.alpn != "" && (len(r.ALPN) == 0 || r.ALPN[len(r.ALPN)-1] != c.alpn) {
				t.Errorf("it offers %q", r.ALPN)
			}
			if !strings.Contains(string(output), c.says) {
				t.Errorf("it does not say %q: %s", c.says, output)
			}
		})
	}
}

func TestAnAlertArrivesThoughBytesWereLeftUnread(t *testing.T) {
	client, ours := connected(t)
	client.Write(make([]byte, 100_000))
	done := make(chan error, 1)
	go func() { done <- Refuse(ours, AlertAccessDenied) }()
	got := make([]byte, 100)
	n, err := client.Read(got)
	if want := Alert(LevelFatal, AlertAccessDenied); err != nil || string(got[:n]) != string(want[:]) {
		t.Errorf("got %x, %v", got[:n], err)
	}
	if n, err := client.Read(got); n != 0 || err == nil || strings.Contains(err.Error(), "reset") {
		t.Errorf("behind the alert: %d bytes, %v", n, err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestARefusedClientThatStaysIsLeft(t *testing.T) {
	_, ours := connected(t)
	done := make(chan error, 1)
	go func() { done <- Refuse(ours, AlertAccessDenied) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a client that does not hang up is waited for without end")
	}
}
