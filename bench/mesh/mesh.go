// Package mesh starts Sluice's real processes for the sections that need all of
// them: a small internet, the server, the proxy and sandboxes, by the commands
// that the demo prints, in folders of their own. It speaks to them as a user
// does, by commands and api.sock alone.
package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"sluice.dev/sluice/bench/process"
)

const (
	startTime = 30 * time.Second // for one process to be ready
	pollEvery = time.Millisecond
	maxReply  = 8 << 20 // bytes of an answer of the API

	resolver = "8.8.8.8:53" // of the small internet
)

// Binaries are what `make build` makes.
var Binaries = []string{"sluice", "sluice-proxy", "sluice-server", "bookinfo", "simnet"}

// ErrNotBuilt says that binaries are missing.
var ErrNotBuilt = errors.New("binaries are missing (make build)")

// CheckBinaries returns ErrNotBuilt where one of names is not in dir.
func CheckBinaries(dir string, names ...string) error {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), ErrNotBuilt)
		}
	}
	return nil
}

// Mesh is the processes that run.
type Mesh struct {
	Internet, Server, Proxy *process.Process

	// How long the start took until it was of use: the server until the first
	// list of rules was answered, the proxy until sandboxes could attach.
	ServerReady, ProxyReady time.Duration

	ctx      context.Context
	bin, dir string
	client   *http.Client
}

// Start starts all but sandboxes. When ctx ends, every wait for them does.
func Start(ctx context.Context, bin string) (_ *Mesh, err error) {
	if err := CheckBinaries(bin, "sluice", "sluice-proxy", "sluice-server", "simnet"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "slb") // short: a socket's path is
	if err != nil {
		return nil, err
	}
	m := &Mesh{ctx: ctx, bin: bin, dir: dir}
	m.client = &http.Client{Timeout: startTime, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", m.runtime("api.sock"))
	}}}
	defer func() {
		if err != nil {
			m.Stop()
		}
	}()
	if err := os.Mkdir(m.runtime(""), 0o700); err != nil {
		return nil, err
	}
	if err := m.startInternet(); err != nil {
		return nil, err
	}
	if err := m.startServer(); err != nil {
		return nil, err
	}
	return m, m.startProxy()
}

func (m *Mesh) path(name string) string    { return filepath.Join(m.dir, name) }
func (m *Mesh) runtime(name string) string { return filepath.Join(m.dir, "run", name) }

// command is a process with the folders of this mesh.
func (m *Mesh) command(program string, args ...string) (*process.Process, error) {
	return process.Start(m.ctx, process.Config{
		Name: program, Argv: append([]string{filepath.Join(m.bin, program)}, args...), CPU: process.AnyCPU, Dir: m.dir,
		Env: []string{"SLUICE_RUNTIME=" + m.runtime(""), "SLUICE_DATA=" + m.path("data")},
	})
}

func (m *Mesh) startInternet() (err error) {
	m.Internet, err = m.command("simnet", "--sockets", m.path("internet.sock"), "--ca", m.path("ca.pem"), "--control", m.path("control.sock"))
	if err == nil {
		err = m.await(m.Internet, "the small internet", func() error {
			_, a := os.Stat(m.path("internet.sock"))
			_, b := os.Stat(m.path("ca.pem"))
			return errors.Join(a, b)
		})
	}
	return err
}

func (m *Mesh) startServer() (err error) {
	began := time.Now()
	if m.Server, err = m.command("sluice-server", "--data-dir", m.path("data")); err != nil {
		return err
	}
	err = m.await(m.Server, "sluice-server", func() error { return m.call(http.MethodGet, rules, nil) })
	m.ServerReady = time.Since(began)
	return err
}

func (m *Mesh) startProxy() (err error) {
	began := time.Now()
	m.Proxy, err = m.command("sluice-proxy", "--data-dir", m.path("data-proxy"),
		"--egress-sockets", m.path("internet.sock"), "--resolver", resolver, "--upstream-ca", m.path("ca.pem"))
	if err != nil {
		return err
	}
	err = m.await(m.Proxy, "sluice-proxy", func() error {
		conn, err := net.Dial("unixpacket", m.runtime("attach.sock"))
		if err == nil {
			conn.Close()
		}
		return err
	})
	m.ProxyReady = time.Since(began)
	return err
}

// await tries until f succeeds or the process ended.
func (m *Mesh) await(p *process.Process, name string, f func() error) error {
	deadline := time.Now().Add(startTime)
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			_, ended := p.Line(startTime)
			return ended
		case <-m.ctx.Done():
			return context.Cause(m.ctx)
		case <-time.After(pollEvery):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not become ready within %v: %w", name, startTime, err)
		}
	}
}

// Sandbox runs a command by `sluice run --service`.
func (m *Mesh) Sandbox(service, version string, argv ...string) (*process.Process, error) {
	return m.command("sluice", append([]string{"run", "--service", service, "--version", version, "--"}, argv...)...)
}

// rules is the collection that EgressRules are created in.
const rules = "/apis/config.istio.io/v1alpha2/namespaces/default/egressrules"

// policies is that of EgressPolicies.
const policies = "/apis/sluice.dev/v1alpha1/namespaces/default/egresspolicies"

// CreateEgressRule lets every workload reach host on a port, and returns when the
// server has answered.
func (m *Mesh) CreateEgressRule(name, host string, port int, protocol string) error {
	return m.call(http.MethodPost, rules, map[string]any{
		"apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule", "metadata": map[string]any{"name": name, "namespace": "default"},
		"spec": map[string]any{
			"destination": map[string]any{"service": host},
			"ports":       []any{map[string]any{"port": port, "protocol": protocol}},
		},
	})
}

// DeleteEgressRule takes it back.
func (m *Mesh) DeleteEgressRule(name string) error {
	return m.call(http.MethodDelete, rules+"/"+name, nil)
}

// CreateEgressPolicy lets every workload reach hosts on a port, and returns when the server
// has answered.
func (m *Mesh) CreateEgressPolicy(name string, hosts []string, port int, protocol string) error {
	return m.call(http.MethodPost, policies, map[string]any{
		"apiVersion": "sluice.dev/v1alpha1", "kind": "EgressPolicy", "metadata": map[string]any{"name": name, "namespace": "default"},
		"spec": map[string]any{"to": map[string]any{
			"hosts": hosts, "ports": []any{map[string]any{"port": port, "protocol": protocol}},
		}},
	})
}

// DeleteEgressPolicy takes it back.
func (m *Mesh) DeleteEgressPolicy(name string) error {
	return m.call(http.MethodDelete, policies+"/"+name, nil)
}

// Programmed returns how many EgressRules have a status that says that every proxy runs
// them.
func (m *Mesh) Programmed() (count int, err error) {
	next := ""
	for {
		var list struct {
			Metadata struct{ Continue string }
			Items    []struct {
				Status struct {
					Conditions []struct{ Type, Status string }
				}
			}
		}
		text, err := m.ask(http.MethodGet, rules+"?limit=500&continue="+url.QueryEscape(next), nil)
		if err == nil {
			err = json.Unmarshal(text, &list)
		}
		if err != nil {
			return count, err
		}
		for _, item := range list.Items {
			for _, condition := range item.Status.Conditions {
				if condition.Type == "Programmed" && condition.Status == "True" {
					count++
				}
			}
		}
		if next = list.Metadata.Continue; next == "" {
			return count, nil
		}
	}
}

func (m *Mesh) call(method, path string, body any) error {
	_, err := m.ask(method, path, body)
	return err
}

// ask returns the body of the answer.
func (m *Mesh) ask(method, path string, body any) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(m.ctx, method, "http://sluice"+path, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := m.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, response.Status, text)
	}
	return text, nil
}

// Stop ends everything, the last started first, and removes the folders.
func (m *Mesh) Stop() {
	m.client.CloseIdleConnections()
	for _, p := range []*process.Process{m.Proxy, m.Server, m.Internet} {
		if p != nil {
			p.Stop()
		}
	}
	os.RemoveAll(m.dir)
}
