package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/kube/chart"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/version"
)

// maxValues bounds a file of --values, in bytes.
const maxValues = 1 << 20

// installFlags say what is installed.
type installFlags struct {
	kubectl kubectlFlags
	print   bool
	wait    bool
	files   []string
	// The words of kube-inject, for what they say there.
	hub, tag, pullPolicy string
	replicas             int
}

func newInstallCommand() *cobra.Command {
	var o installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Sluice on a Kubernetes cluster, or print what would be applied",
		Long: `Installs the control plane on the cluster of kubectl's current context: the kinds, the rights, several
servers, and the webhooks, all in namespace sluice-system. kubectl applies it, so kubectl must be in PATH. It
is done when every server runs and the cluster asks them. Installing again brings another version or other values.

What is applied is the chart of deploy/helm, with its values; --print writes it in place of applying it,
without a cluster and without kubectl. With Helm: helm install sluice deploy/helm -n sluice-system --create-namespace.`,
		Example: `  sluice install
  sluice install --hub registry.example.com/mesh --tag 1.0 --replicas 3
  sluice install --print --values values.yaml | kubectl diff -f -`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return install(cmd, &o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.print, "print", false, "write the manifests to standard output and apply nothing")
	f.StringArrayVar(&o.files, "values", nil, "`FILE` with values of the chart, - for standard input; may be repeated; values of a later file replace those of earlier ones")
	f.StringVar(&o.hub, "hub", inject.DefaultHub, "`PREFIX` of the images, which are PREFIX/sluice-server and PREFIX/sluice-proxy")
	f.StringVar(&o.tag, "tag", version.String(), "`TAG` of the images")
	f.StringVar(&o.pullPolicy, "imagePullPolicy", "IfNotPresent", "pull policy of the images, of the server and of sidecars: Always, IfNotPresent or Never")
	f.IntVar(&o.replicas, "replicas", 2, "how many servers run")
	f.BoolVar(&o.wait, "wait", true, "wait until the servers run and are asked")
	o.kubectl.define(f)
	_ = cmd.MarkFlagFilename("values", "yaml", "yml")
	complete(cmd, "imagePullPolicy", cobra.FixedCompletions([]string{"Always", "IfNotPresent", "Never"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// objects renders the chart with the values of the flags and of the files.
func (o *installFlags) objects(cmd *cobra.Command) ([]chart.Object, error) {
	// The tag of this very build, unless a file names one; what a flag says counts most.
	values := []chart.Values{{"createNamespace": true}}
	for _, file := range o.files {
		read, err := readValues(cmd, file)
		if err != nil {
			return nil, err
		}
		values = append(values, read)
	}
	said := make(chart.Values)
	for flag, value := range map[string]any{"hub": o.hub, "tag": o.tag, "imagePullPolicy": o.pullPolicy, "replicas": float64(o.replicas)} {
		if cmd.Flags().Changed(flag) {
			said[flag] = value
		}
	}
	return chart.Render(version.String(), append(values, said)...)
}

func readValues(cmd *cobra.Command, file string) (chart.Values, error) {
	name, from, err := openInput(cmd, file)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	data, err := io.ReadAll(io.LimitReader(from, maxValues+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxValues {
		return nil, fmt.Errorf("%s has more than %d bytes: too long for values of the chart", name, maxValues)
	}
	return chart.ReadValues(name, data)
}

func install(cmd *cobra.Command, o *installFlags) error {
	objects, err := o.objects(cmd)
	if err != nil {
		return err
	}
	if o.print {
		if o.kubectl.given(cmd) {
			return usageError(cmd, "--print asks no cluster: leave --kubeconfig, --context and --timeout out")
		}
		_, err := io.WriteString(cmd.OutOrStdout(), chart.Text(objects))
		return err
	}
	k, err := o.kubectl.find(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.kubectl.timeout)
	defer cancel()
	// Server-side, so that what the servers fill in (the authority of a webhook) stays.
	if err := k.run(ctx, chart.Text(objects), "apply", "--server-side", "--force-conflicts", "--field-manager=sluice-install", "-f", "-"); err != nil {
		return err
	}
	if !o.wait {
		return nil
	}
	var kinds []string
	for _, object := range objects {
		if object.Kind == "CustomResourceDefinition" {
			kinds = append(kinds, "crd/"+object.Name)
		}
	}
	left := "--timeout=" + o.kubectl.timeout.String()
	if len(kinds) > 0 {
		if err := k.quiet(ctx, append([]string{"wait", "--for=condition=Established", left}, kinds...)...); err != nil {
			return err
		}
	}
	for _, object := range objects {
		if object.Kind == "Deployment" {
			if err := k.run(ctx, "", "--namespace="+object.Namespace, "rollout", "status", "deployment/"+object.Name, left); err != nil {
				return fmt.Errorf("%w; kubectl --namespace=%s describe pods and logs deployment/%s say why", err, object.Namespace, object.Name)
			}
		}
	}
	if err := k.untilAsked(ctx, objects); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Sluice runs in %s; sluice kube-inject -f FILE puts the sidecar into what you apply\n", chart.Namespace)
	return err
}

// askedEvery is how often it is looked whether a webhook is ready.
const askedEvery = 200 * time.Millisecond

// untilAsked waits until the servers filled the authority into each webhook: before that the
// cluster believes none of them, and refuses rules.
func (k *kubectl) untilAsked(ctx context.Context, objects []chart.Object) error {
	for _, object := range objects {
		if !isWebhook(&object) {
			continue
		}
		for {
			said, err := k.output(ctx, "get", object.Kind, object.Name, "-o", "jsonpath={range .webhooks[*]}[{.clientConfig.caBundle}]{end}")
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil && !strings.Contains(said, "[]") {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("no server filled its authority into %s %s: the logs of deployment/sluice-server say why", object.Kind, object.Name)
			case <-time.After(askedEvery):
			}
		}
	}
	return nil
}

func isWebhook(object *chart.Object) bool {
	return slices.Contains([]string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"}, object.Kind)
}
