package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sluice.dev/sluice/api"
	sluice "sluice.dev/sluice/internal/rest"
)

// server is a sluice-server as kubectl's commands see a cluster
// (genericclioptions.RESTClientGetter). No KUBECONFIG is read but by a plugin of kubectl: which
// server is meant is said as to every other command of sluice.
type server struct {
	plugin     bool   // called by kubectl, and about its cluster where nothing else is said
	address    string // of --server
	kubeconfig string // a file, in the place of address
	context    string // of a cluster
	namespace  string
	flags      *pflag.FlagSet

	discovery func() (discovery.CachedDiscoveryInterface, error)
}

func (s *server) addFlags(flags *pflag.FlagSet) {
	s.flags = flags
	flags.StringVar(&s.address, "server", os.Getenv("SLUICE_SERVER"), "`ADDR` of sluice-server: its socket, its runtime folder, or a file of sluice kubeconfig (SLUICE_SERVER; default: api.sock in the runtime folder)")
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "`FILE` of sluice kubeconfig: speak to the server that it names, over TLS")
	if s.plugin {
		flags.StringVar(&s.context, "context", "", "`NAME` of kubectl's context whose cluster is meant")
	}
	flags.StringVarP(&s.namespace, "namespace", "n", "", "namespace (default \"default\")")
	s.discovery = sync.OnceValues(func() (discovery.CachedDiscoveryInterface, error) {
		config, err := s.ToRESTConfig()
		if err != nil {
			return nil, err
		}
		client, err := discovery.NewDiscoveryClientForConfig(config)
		if err != nil {
			return nil, err
		}
		return memory.NewMemCacheClient(client), nil
	})
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (s *server) ToRESTConfig() (*rest.Config, error) {
	if about, err := s.target(); err != nil || about.cluster {
		if err != nil {
			return nil, err
		}
		return about.config(s.namespace).ClientConfig()
	}
	address, err := s.given()
	if err != nil {
		return nil, err
	}
	endpoint, err := sluice.Resolve(address)
	if err != nil {
		return nil, err
	}
	dialer := new(net.Dialer)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, endpoint.Network, endpoint.At)
		},
		TLSClientConfig: endpoint.TLS,
	}
	config := &rest.Config{Host: endpoint.URL, Transport: explaining{transport, &endpoint}, QPS: -1} // one command: nobody else waits
	if endpoint.TLS == nil {
		config.Transport = inTheClear{config.Transport, endpoint.At}
	}
	return config, nil
}

// target says whether a cluster is meant.
func (s *server) target() (target, error) {
	g := given{kubeconfig: s.kubeconfig, context: s.context}
	if s.flags != nil && s.flags.Changed("server") {
		g.server = s.address
	}
	return targetOf(s.plugin, g)
}

// given is the address that the flags say.
func (s *server) given() (string, error) {
	switch {
	case s.kubeconfig == "":
		return s.address, nil
	case s.flags.Changed("server"):
		return "", errors.New("--server and --kubeconfig name a server each: give one")
	case !sluice.IsFile(s.kubeconfig):
		return "", fmt.Errorf("--kubeconfig %s: it is not there, or not a regular file", s.kubeconfig)
	}
	return sluice.FileAddress(s.kubeconfig)
}

// explaining says of a request that got no answer what to do next.
type explaining struct {
	http.RoundTripper
	endpoint *sluice.Endpoint
}

// RoundTrip implements http.RoundTripper.
func (e explaining) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := e.RoundTripper.RoundTrip(request)
	if err != nil && request.Context().Err() == nil {
		err = e.endpoint.Explain(err)
	}
	return response, err
}

// inTheClear carries requests without TLS, and knows a port that wants TLS by its answer.
type inTheClear struct {
	http.RoundTripper
	at string
}

// RoundTrip implements http.RoundTripper.
func (c inTheClear) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.RoundTripper.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		return response, err
	}
	const enough = 4 << 10
	first, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return nil, errors.Join(err, response.Body.Close())
	}
	if sluice.SaysTLS(response.StatusCode, first) {
		return nil, errors.Join(sluice.TLSPortError(c.at), response.Body.Close())
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(first), response.Body), response.Body}
	return response, nil
}

// ToDiscoveryClient implements genericclioptions.RESTClientGetter.
func (s *server) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return s.discovery()
}

// ToRESTMapper implements genericclioptions.RESTClientGetter.
func (s *server) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := s.discovery()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(client), client, nil), nil
}

// ToRawKubeConfigLoader implements genericclioptions.RESTClientGetter.
func (s *server) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	if about, err := s.target(); err == nil && about.cluster {
		return about.config(s.namespace)
	}
	namespace := s.namespace
	if namespace == "" {
		namespace = api.DefaultNamespace
		if address, err := s.given(); err == nil {
			namespace = sluice.Namespace(address)
		}
	}
	const name = "sluice"
	config := clientcmdapi.NewConfig()
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, Namespace: namespace}
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "http://" + name}
	config.CurrentContext = name
	return clientcmd.NewDefaultClientConfig(*config, &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: s.namespace}})
}
