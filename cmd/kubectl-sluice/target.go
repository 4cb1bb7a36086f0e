package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	sluice "sluice.dev/sluice/internal/rest"
)

// serverName is the name by which sluice-server proves itself where it is reached over TLS.
const serverName = "sluice-server"

// target is which server or cluster a command is about.
type target struct {
	cluster    bool
	kubeconfig string // of the cluster; "": where kubectl looks
	context    string // of it; "": the current one
}

// given is what the flags say of the target, without those that are of the cluster.
type given struct {
	server, kubeconfig, context string
	rest                        []string
}

// flagsOf reads the flags of a command of sluice that say which server or cluster is meant, as it
// reads them itself, and takes those out that it does not know.
func flagsOf(args []string) (g given, err error) {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			g.rest = append(g.rest, args[i:]...)
			break
		}
		name, value, joined := strings.Cut(args[i], "=")
		var to *string
		switch name {
		case "--server":
			to = &g.server
		case "--kubeconfig":
			to = &g.kubeconfig
		case "--context":
			to = &g.context
		default:
			g.rest = append(g.rest, args[i])
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return g, fmt.Errorf("flag needs an argument: %s", name)
			}
			value = args[i]
		}
		if *to = value; to == &g.server {
			g.rest = append(g.rest, name+"="+value)
		}
	}
	return g, nil
}

// errTwo is wrapped by the error of flags that name a server and a cluster.
var errTwo = errors.New("name one server")

// targetOf says what a command is about: the server that the flags or SLUICE_SERVER name, else,
// of a plugin of kubectl, the cluster that kubectl would speak to, else the server of this machine.
func targetOf(plugin bool, g given) (t target, err error) {
	switch {
	case !plugin:
		return t, nil
	case g.server != "" && g.context != "":
		return t, fmt.Errorf("--server and --context: %w", errTwo)
	case g.server != "", g.kubeconfig == "" && g.context == "" && os.Getenv("SLUICE_SERVER") != "":
		return t, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if g.kubeconfig != "" {
		if !sluice.IsFile(g.kubeconfig) {
			return t, nil // which is said there
		}
		rules.ExplicitPath = g.kubeconfig
	}
	raw, err := rules.Load()
	if err != nil {
		return t, fmt.Errorf("read what kubectl knows of clusters: %w", err)
	}
	name := raw.CurrentContext
	if g.context != "" {
		name = g.context
		if raw.Contexts[name] == nil {
			return t, fmt.Errorf("--context: there is no context %q", name)
		}
	}
	if raw.Contexts[name] == nil {
		return t, nil // kubectl knows no cluster, or what is in the file is no kubeconfig
	}
	if of := raw.Clusters[raw.Contexts[name].Cluster]; of == nil || of.TLSServerName == serverName {
		return t, nil // a file of sluice kubeconfig
	}
	return target{cluster: true, kubeconfig: g.kubeconfig, context: g.context}, nil
}

// config is how kubectl reaches the cluster, with a namespace in the place of the context's where
// it is not empty.
func (t *target) config(namespace string) clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = t.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{
		CurrentContext: t.context, Context: clientcmdapi.Context{Namespace: namespace},
	})
}

// Commands of sluice that have another answer on a cluster than on a machine.
var (
	// asking is those that ask the servers.
	asking = []string{"status", "flows", "why", "trace", "top"}
	// kubectls is those that kubectl itself has for a cluster, whose API server keeps the rules.
	kubectls = []string{"create", "replace", "apply", "delete", "describe"}
	// machines is those of a server of one machine.
	machines = []string{"history", "backup", "restore", "kubeconfig"}
)

// refusal says why a command of sluice is not for a cluster, nil where it is, or is about none.
func refusal(verb string) error {
	switch {
	case slices.Contains(kubectls, verb):
		return fmt.Errorf("on a cluster the rules are its API server's: kubectl %s does it; --server names a sluice-server of one machine", verb)
	case slices.Contains(machines, verb):
		return fmt.Errorf("%s is for a sluice-server of one machine, which --server names: on a cluster rules, rights and backups are its own", verb)
	}
	return nil
}
