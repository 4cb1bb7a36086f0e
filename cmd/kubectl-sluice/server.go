package main

import (
	"context"
	"net"
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
// (genericclioptions.RESTClientGetter). No kubeconfig is read: which server is meant
// is said as to every other command of sluice.
type server struct {
	address   string // of --server
	namespace string

	discovery func() (discovery.CachedDiscoveryInterface, error)
}

func (s *server) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.address, "server", os.Getenv("SLUICE_SERVER"), "`ADDR` of sluice-server: its socket, its runtime folder, or a loopback address with a port (SLUICE_SERVER; default: api.sock in the runtime folder)")
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
	network, at, host, err := sluice.Resolve(s.address)
	if err != nil {
		return nil, err
	}
	dialer := new(net.Dialer)
	return &rest.Config{
		Host: "http://" + host,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, network, at) },
		QPS:  -1, // one command on one machine: nobody else waits
	}, nil
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
	namespace := s.namespace
	if namespace == "" {
		namespace = api.DefaultNamespace
	}
	const name = "sluice"
	config := clientcmdapi.NewConfig()
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, Namespace: namespace}
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "http://" + name}
	config.CurrentContext = name
	return clientcmd.NewDefaultClientConfig(*config, &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: s.namespace}})
}
