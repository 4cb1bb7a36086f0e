package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/stdout"
)

func newKubeconfigCommand() *cobra.Command {
	var role, name, address string
	lifetime := authority.DefaultLifetime
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Write a kubeconfig, with which sluice and kubectl speak to this server over TLS",
		Long: `Writes a kubeconfig for sluice and kubectl: the address of the server (sluice-server --api-listen), the
certificate of its authority, and a client certificate with its private key, which is made here and
never sent. A reader may read everything; an editor may write rules and configuration too. The
certificate is good for --lifetime and cannot be taken back before: whoever holds the file is who
it says. A file that standard output leads to is made readable by its owner alone (mode 0600).`,
		Example: `  sluice kubeconfig > sluice.kubeconfig
  sluice kubeconfig --role editor --lifetime 8h --name jason > editor.kubeconfig
  sluice --kubeconfig sluice.kubeconfig flows
  kubectl --kubeconfig sluice.kubeconfig get egressrules`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				name = localName()
			}
			if err := checkAddress(address); err != nil {
				return err
			}
			namespace, _ := namespaceFor(cmd)
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			key, request, err := authority.NewRequest()
			if err != nil {
				return err
			}
			var credential inspect.Credential
			if err := client.Post(cmd.Context(), inspect.CredentialPath, inspect.CredentialRequest{
				Format: inspect.Format, Name: name, Role: role, Lifetime: lifetime, Request: string(request),
			}, &credential); err != nil {
				return err
			}
			if address != "" {
				credential.Address = address
			}
			if err := keepPrivate(cmd.OutOrStdout()); err != nil {
				return err
			}
			if err := writeKubeconfig(cmd.OutOrStdout(), &credential, key, name, namespace); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is a%s %s until %s\n", name, article(role), role, credential.Expires.Format(time.RFC3339))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", authority.Reader, strings.Join(authority.Roles(), " or "))
	f.DurationVar(&lifetime, "lifetime", lifetime, fmt.Sprintf("how long it is good, from %s to %s", authority.MinLifetime, authority.MaxLifetime))
	f.StringVar(&name, "name", "", "who it is for, in the log and in sluice history (default: the user who runs this)")
	f.StringVar(&address, "address", "", "`HOST:PORT` under which the server is reached from where the file goes (default: the one on which it listens)")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(authority.Roles(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func article(role string) string {
	if strings.HasPrefix(role, "e") {
		return "n"
	}
	return ""
}

// localName is the name of the user who runs this, as far as it is one for a certificate.
func localName() string {
	if me, err := user.Current(); err == nil && authority.IsName(me.Username) {
		return me.Username
	}
	return fmt.Sprintf("uid-%d", os.Getuid())
}

// checkAddress checks HOST:PORT: it goes into a URL and a file.
func checkAddress(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = netip.ParseAddrPort(net.JoinHostPort("127.0.0.1", port))
	}
	if err == nil && !isHost(host) {
		err = fmt.Errorf("%q is not a valid host", host)
	}
	if err != nil {
		return fmt.Errorf("--address %q must be a host and a port, as in mesh.example.com:15010", address)
	}
	return nil
}

func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && len(host) <= 253 && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == ""
}

// keepPrivate makes a file that we write to readable by its owner alone, before the key
// is in it. What is no file (a terminal, a pipe) is left.
func keepPrivate(w io.Writer) error {
	if wrapped, ok := w.(*stdout.Writer); ok {
		w = wrapped.To
	}
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return nil // a closed output fails at its first write
	}
	if err := file.Chmod(0o600); err != nil {
		return fmt.Errorf("keep the private key from others: %w", err)
	}
	return nil
}

// writeKubeconfig writes the file that kubectl reads. Each value is base64, or was
// checked by whoever made it.
func writeKubeconfig(w io.Writer, c *inspect.Credential, key []byte, name, namespace string) error {
	encode := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	_, err := fmt.Fprintf(w, `apiVersion: v1
kind: Config
clusters:
- name: sluice
  cluster:
    server: https://%s
    tls-server-name: %s
    certificate-authority-data: %s
users:
- name: %[4]q
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: sluice
  context:
    cluster: sluice
    user: %[4]q
    namespace: %[7]s
current-context: sluice
`, c.Address, c.ServerName, encode([]byte(c.CA)), name, encode([]byte(c.Certificate)), encode(key), namespace)
	return err
}
