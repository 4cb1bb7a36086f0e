package cli

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/rest"
)

// What a shell offers of what the server knows. Without one, or where it does not
// answer in time, that is nothing: a completion has nowhere to say why.
const (
	completionTime = 2 * time.Second // for all questions of one completion
	maxCompletions = 1000            // words that one completion offers
)

type completion = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// completeBy makes a completion of what find reads from the server.
func completeBy(find func(ctx context.Context, cmd *cobra.Command, client *rest.Client, args []string) []string) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		server, err := serverFor(cmd)
		if err != nil {
			return nil, none
		}
		client, err := rest.New(rest.Config{Server: server, Timeout: completionTime})
		if err != nil {
			return nil, none
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		found := slices.DeleteFunc(find(ctx, cmd, client, args), func(each string) bool { return !strings.HasPrefix(each, word) })
		slices.Sort(found)
		found = slices.Compact(found)
		return found[:min(len(found), maxCompletions)], none
	}
}

// complete has a flag completed by what the server knows.
func complete(cmd *cobra.Command, flag string, by completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, by); err != nil {
		panic(err) // a flag that the command does not have, or one that is completed already
	}
}

// completeTypes offers the words for types as the first argument, and behind it the
// names that the server has.
func completeTypes(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if cmd.DisableFlagParsing {
		if args = withoutFlags(cmd, args); args == nil {
			return completeNamespaces()(cmd, nil, word)
		}
	}
	if len(args) == 0 {
		words := api.TypeWords()
		if cmd.Name() == "get" {
			words = append(words, allTypes)
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	return completeBy(func(ctx context.Context, cmd *cobra.Command, client *rest.Client, args []string) (found []string) {
		kind, err := api.Lookup(args[0])
		if err != nil || cmd.Name() == "get" && len(args) > 1 {
			return nil
		}
		namespace, _ := namespaceFor(cmd)
		for _, o := range objectsOf(ctx, client, namespace, kind) {
			if !slices.Contains(args[1:], o.Metadata.Name) {
				found = append(found, o.Metadata.Name)
			}
		}
		return found
	})(cmd, args, word)
}

// withoutFlags leaves of the words of a command that reads its flags elsewhere the arguments,
// and takes the flags that say which server and namespace are meant. nil: the next word is a
// namespace.
func withoutFlags(cmd *cobra.Command, words []string) []string {
	arguments := []string{}
	for i := 0; i < len(words); i++ {
		if !strings.HasPrefix(words[i], "-") || words[i] == "-" {
			arguments = append(arguments, words[i])
			continue
		}
		name, value, inOne := strings.Cut(strings.TrimLeft(words[i], "-"), "=")
		if name == "n" {
			name = flagNamespace
		}
		if !slices.Contains([]string{flagNamespace, flagServer, flagKubeconfig}, name) {
			continue // perhaps with a value behind it, which is taken for an argument
		}
		if !inOne {
			if i++; i == len(words) {
				if name == flagNamespace {
					return nil
				}
				break
			}
			value = words[i]
		}
		_ = cmd.Flags().Set(name, value)
	}
	return arguments
}

// completeWorkloads offers the instances that have joined.
func completeWorkloads() completion {
	return completeBy(func(ctx context.Context, _ *cobra.Command, client *rest.Client, _ []string) (found []string) {
		for _, w := range joined(ctx, client) {
			found = append(found, w.Instance)
		}
		return found
	})
}

// completeNamespaces offers those in which there is something.
func completeNamespaces() completion {
	return completeBy(func(ctx context.Context, _ *cobra.Command, client *rest.Client, _ []string) []string {
		kinds := slices.DeleteFunc(slices.Clone(api.Kinds()), func(k *api.Kind) bool { return !k.Namespaced })
		there := map[string]bool{api.DefaultNamespace: true}
		for _, w := range joined(ctx, client) {
			there[w.Namespace] = true
		}
		for _, o := range objectsOf(ctx, client, rest.AllNamespaces, kinds...) {
			there[o.Metadata.Namespace] = true
		}
		return slices.Collect(maps.Keys(there))
	})
}

// completeServices offers the services of a namespace: those that workloads are of, and
// those that are said by a MeshService.
func completeServices() completion {
	return completeBy(func(ctx context.Context, cmd *cobra.Command, client *rest.Client, _ []string) (found []string) {
		namespace, _ := namespaceFor(cmd)
		for _, w := range joined(ctx, client) {
			if w.Namespace == namespace && w.Service != "" {
				found = append(found, w.Service)
			}
		}
		for _, o := range objectsOf(ctx, client, namespace, kindsOf[*v1alpha1.MeshServiceSpec]()...) {
			found = append(found, o.Metadata.Name)
		}
		return found
	})
}

// completeHosts offers the hosts that rules allow by their names.
func completeHosts() completion {
	return completeBy(func(ctx context.Context, _ *cobra.Command, client *rest.Client, _ []string) (hosts []string) {
		for _, o := range egressRules(ctx, client) {
			named, _ := destinations(&o)
			hosts = append(hosts, named...)
		}
		return hosts
	})
}

// completeRules offers the names of the rules that decide, as flows print them.
func completeRules() completion {
	return completeBy(func(ctx context.Context, _ *cobra.Command, client *rest.Client, _ []string) (ids []string) {
		for _, o := range egressRules(ctx, client) {
			ids = append(ids, o.ID())
		}
		return ids
	})
}

// completeQuestions offers what `why` takes: each host of a rule as it would be asked
// about, and each rule.
func completeQuestions() completion {
	return completeBy(func(ctx context.Context, _ *cobra.Command, client *rest.Client, args []string) (questions []string) {
		if len(args) > 0 {
			return nil
		}
		for _, o := range egressRules(ctx, client) {
			questions = append(questions, o.ID())
			hosts, ports := destinations(&o)
			for _, host := range hosts {
				for _, p := range ports {
					questions = append(questions, question(host, p))
				}
			}
		}
		return questions
	})
}

// port is one of a rule.
type port struct {
	number   int32
	protocol string
}

// question is a host as why is asked about it.
func question(host string, p port) string {
	at := net.JoinHostPort(host, strconv.Itoa(int(p.number)))
	switch protocol := strings.ToLower(p.protocol); {
	case protocol == "https" && p.number == 443, protocol == "http" && p.number == 80:
		return protocol + "://" + host + "/"
	case protocol == "https", protocol == "http":
		return protocol + "://" + at + "/"
	}
	return at
}

// destinations are the hosts that a rule allows by name, without wildcards and addresses,
// and its ports.
func destinations(o *api.Object) (hosts []string, ports []port) {
	switch spec := o.Spec.(type) {
	case *istio.EgressRuleSpec:
		if spec.Destination != nil {
			hosts = []string{spec.Destination.Service}
		}
		for _, p := range spec.Ports {
			ports = append(ports, port{p.Port, p.Protocol})
		}
	case *v1alpha1.EgressPolicySpec:
		hosts = slices.Clone(spec.To.Hosts)
		for _, p := range spec.To.Ports {
			ports = append(ports, port{p.Port, p.Protocol})
		}
	}
	return slices.DeleteFunc(hosts, func(host string) bool { return !isPlainHost(host) }), ports
}

// isPlainHost says of a destination of a rule whether it is the name of one host.
func isPlainHost(text string) bool {
	_, err := names.Parse(text)
	return err == nil
}

func egressRules(ctx context.Context, client *rest.Client) []api.Object {
	return objectsOf(ctx, client, rest.AllNamespaces, append(kindsOf[*istio.EgressRuleSpec](), kindsOf[*v1alpha1.EgressPolicySpec]()...)...)
}

// joined are the workloads that the server lists; none where it does not answer.
func joined(ctx context.Context, client *rest.Client) []inspect.WorkloadStatus {
	var status inspect.Status
	if err := client.Sluice(ctx, inspect.StatusPath, nil, &status); err != nil {
		return nil
	}
	return status.Workloads
}

// objectsOf returns the objects of some kinds; none of one that the server does not list.
func objectsOf(ctx context.Context, client *rest.Client, namespace string, kinds ...*api.Kind) (all []api.Object) {
	for _, kind := range kinds {
		objects, err := client.List(ctx, kind, namespace)
		if err != nil {
			continue
		}
		all = append(all, objects...)
	}
	return all
}

// kindsOf are the kinds whose spec is a T.
func kindsOf[T any]() (kinds []*api.Kind) {
	for _, kind := range api.Kinds() {
		if _, ok := kind.NewSpec().(T); ok {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}
