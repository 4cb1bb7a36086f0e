package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/kube/chart"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/version"
)

// namedPods is how many Pods a refusal names.
const namedPods = 5

func newUninstallCommand() *cobra.Command {
	var through kubectlFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Sluice from a Kubernetes cluster, with every rule",
		Long: `Removes what sluice install or Helm brought to the cluster of kubectl's current context, and what the
servers made there: the webhooks, the servers, their rights, their namespace, the ConfigMap of each namespace,
and the kinds with every rule. Nothing is left. kubectl get sluice -A -o yaml shows the rules before.

A Pod that still has a sidecar would keep to the rules that it has and not start again, so such Pods are
named and nothing is removed: apply their files without the sidecar first. --force removes all the same.`,
		Example: `  kubectl get sluice -A -o yaml > rules.yaml
  sluice uninstall
  sluice uninstall --context test --force`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return uninstall(cmd, &through, force) },
	}
	f := cmd.Flags()
	f.BoolVar(&force, "force", false, "remove it although Pods still have a sidecar")
	through.define(f)
	return cmd
}

func uninstall(cmd *cobra.Command, through *kubectlFlags, force bool) error {
	objects, err := chart.Render(version.String(), chart.Values{"createNamespace": true})
	if err != nil {
		return err
	}
	k, err := through.find(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), through.timeout)
	defer cancel()
	if !force {
		if err := k.refuseSidecars(ctx); err != nil {
			return err
		}
	}
	var webhooks, servers, rest []chart.Object
	for _, object := range slices.Backward(objects) {
		switch {
		case isWebhook(&object):
			webhooks = append(webhooks, object)
		case object.Kind == "Deployment":
			servers = append(servers, object)
		default:
			rest = append(rest, object)
		}
	}
	left := "--timeout=" + through.timeout.String()
	// Nobody is asked any more, then nobody makes anything any more, then it is removed.
	if err := k.run(ctx, chart.Text(webhooks), "delete", "--ignore-not-found", left, "-f", "-"); err != nil {
		return err
	}
	if err := k.run(ctx, chart.Text(servers), "delete", "--ignore-not-found", "--cascade=foreground", left, "-f", "-"); err != nil {
		return err
	}
	if err := k.run(ctx, "", "delete", "configmaps", "--all-namespaces", "--selector="+madeByServer, "--field-selector=metadata.name="+inject.RootsConfigMap, left); err != nil {
		return err
	}
	if err := k.run(ctx, chart.Text(rest), "delete", "--ignore-not-found", left, "-f", "-"); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "Sluice is removed")
	return err
}

// madeByServer is the label of what the servers made in the namespaces of others, who may have
// given it to what is theirs.
const madeByServer = "app.kubernetes.io/managed-by=sluice-server"

// refuseSidecars returns an error that names Pods which have a sidecar.
func (k *kubectl) refuseSidecars(ctx context.Context) error {
	said, err := k.output(ctx, "get", "pods", "--all-namespaces", "-o",
		`jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{range .spec.initContainers[*]}{" "}{.name}{end}{"\n"}{end}`)
	if err != nil {
		return err
	}
	var with []string
	for line := range strings.Lines(said) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields[1:], inject.ProxyName) {
			with = append(with, fields[0])
		}
	}
	if len(with) == 0 {
		return nil
	}
	more := ""
	if n := len(with) - namedPods; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("nothing is removed: Pods still have a sidecar, which would not start again: %s%s; apply their files without it first, or say --force", strings.Join(with[:min(len(with), namedPods)], ", "), more)
}
