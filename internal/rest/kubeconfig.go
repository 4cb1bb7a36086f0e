package rest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/api"
)

// maxKubeconfig bounds a kubeconfig, in bytes.
const maxKubeconfig = 256 << 10

// Kubeconfig is what "sluice kubeconfig" wrote: a server elsewhere, and who we are to it.
type Kubeconfig struct {
	At        string // host:port
	Namespace string // where no other is given
	TLS       *tls.Config
}

// kubeconfigFile is the part of a kubeconfig that is read. What would mean more than
// that is refused by name: a file that is read and half ignored would speak to another
// server, or as somebody else.
type kubeconfigFile struct {
	Current  string `yaml:"current-context"`
	Clusters []struct {
		Name    string
		Cluster struct {
			Server     string
			ServerName string         `yaml:"tls-server-name"`
			CA         string         `yaml:"certificate-authority-data"`
			Other      map[string]any `yaml:",inline"`
		}
	}
	Users []struct {
		Name string
		User struct {
			Certificate string         `yaml:"client-certificate-data"`
			Key         string         `yaml:"client-key-data"`
			Other       map[string]any `yaml:",inline"`
		}
	}
	Contexts []struct {
		Name    string
		Context struct{ Cluster, User, Namespace string }
	}
}

// IsFile reports whether there is a file at a path.
func IsFile(path string) bool {
	if path == "" {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// ReadKubeconfig reads a file of "sluice kubeconfig". Its errors hold no key.
func ReadKubeconfig(path string) (*Kubeconfig, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxKubeconfig+1))
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := parseKubeconfig(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; sluice reads what sluice kubeconfig writes, on the machine of the server", filepath.Clean(path), err)
	}
	return config, nil
}

// parseKubeconfig never puts what it read of a user into its errors.
func parseKubeconfig(content []byte) (*Kubeconfig, error) {
	if len(content) > maxKubeconfig {
		return nil, fmt.Errorf("it is longer than %d bytes", maxKubeconfig)
	}
	var file kubeconfigFile
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, errors.New("it is not the YAML of a kubeconfig")
	}
	if file.Current == "" {
		return nil, errors.New("it names no current-context")
	}
	for _, context := range file.Contexts {
		if context.Name != file.Current {
			continue
		}
		config := &Kubeconfig{Namespace: context.Context.Namespace}
		if config.Namespace == "" {
			config.Namespace = api.DefaultNamespace
		}
		if !api.IsNamespace(config.Namespace) {
			return nil, fmt.Errorf("the namespace of context %q cannot be one", file.Current)
		}
		return config, file.fill(config, context.Context.Cluster, context.Context.User)
	}
	return nil, fmt.Errorf("it has no context %q, which current-context names", file.Current)
}

func decodeData(text string) ([]byte, error) { return base64.StdEncoding.DecodeString(text) }

// fill sets the server and who we are.
func (f *kubeconfigFile) fill(config *Kubeconfig, cluster, user string) error {
	config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	found := false
	for _, each := range f.Clusters {
		if each.Name != cluster || found {
			continue
		}
		found = true
		for field := range each.Cluster.Other {
			return fmt.Errorf("cluster %q has %s, which is not supported", cluster, field)
		}
		u, err := url.Parse(each.Cluster.Server)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
			return fmt.Errorf("the server of cluster %q must look like https://mesh.example.com:15010", cluster)
		}
		config.At = u.Host
		if u.Port() == "" {
			config.At = net.JoinHostPort(u.Hostname(), "443")
		}
		config.TLS.ServerName = each.Cluster.ServerName
		if config.TLS.ServerName == "" {
			config.TLS.ServerName = u.Hostname()
		}
		ca, err := decodeData(each.Cluster.CA)
		config.TLS.RootCAs = x509.NewCertPool()
		if err != nil || !config.TLS.RootCAs.AppendCertsFromPEM(ca) {
			return fmt.Errorf("certificate-authority-data of cluster %q holds no certificate", cluster)
		}
	}
	if !found {
		return fmt.Errorf("it has no cluster %q, which the context names", cluster)
	}
	for _, each := range f.Users {
		if each.Name != user {
			continue
		}
		for field := range each.User.Other {
			return fmt.Errorf("user %q has %s, which is not supported", user, field)
		}
		certificate, err := decodeData(each.User.Certificate)
		if err != nil {
			return fmt.Errorf("client-certificate-data of user %q is not valid base64", user)
		}
		key, err := decodeData(each.User.Key)
		if err != nil {
			return fmt.Errorf("client-key-data of user %q is not valid base64", user)
		}
		pair, err := tls.X509KeyPair(bytes.TrimSpace(certificate), key)
		if err != nil {
			return fmt.Errorf("user %q has no client certificate with its key", user)
		}
		config.TLS.Certificates = []tls.Certificate{pair}
		return nil
	}
	return fmt.Errorf("it has no user %q, whom the context names", user)
}
