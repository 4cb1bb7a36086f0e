package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/version"
)

// injectFlags are the flags of kube-inject, most of them in the words of Istio 0.5.
type injectFlags struct {
	files      []string
	output     string
	hub, tag   string
	meshConfig string
	options    inject.Options
}

func newKubeInjectCommand() *cobra.Command {
	var o injectFlags
	cmd := &cobra.Command{
		Use:   "kube-inject -f FILE",
		Short: "Put the sidecar into the workloads of Kubernetes files",
		Long: `Reads files of Kubernetes objects and writes them with Sluice's sidecar in each Deployment, DaemonSet,
ReplicaSet, ReplicationController, StatefulSet, Job, CronJob, PodTemplate and Pod, in lists too. Objects of
other kinds are written as they are. Comments and order are kept. API versions that no cluster serves any
more, such as extensions/v1beta1, are upgraded, which is said on standard error.

The sidecar is an init container that goes on, so the cluster must be Kubernetes 1.29 or later. Where one
workload cannot be held by a sidecar, nothing is written. What was injected before is not changed by
injecting it again.`,
		Example: `  kubectl apply -f <(sluice kube-inject -f bookinfo.yaml)
  sluice kube-inject -f bookinfo.yaml --includeIPRanges=10.0.0.0/8 --meshConfigFile mesh.yaml`,
		Args: filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error { return kubeInject(cmd, &o) },
	}
	addFileFlag(cmd, &o.files)
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "`FILE` to write to (default -, standard output)")
	f.StringVar(&o.hub, "hub", inject.DefaultHub, "`PREFIX` of the sidecar's image, which is PREFIX/sluice-proxy")
	f.StringVar(&o.tag, "tag", version.String(), "`TAG` of the sidecar's image")
	f.StringVar(&o.options.IncludeIPRanges, "includeIPRanges", "", "`CIDRS` of destinations that go through the sidecar, comma separated; others bypass it, which the MeshConfig must allow")
	f.IntVar(&o.options.ProxyUID, "sidecarProxyUID", inject.DefaultUID, "`USER` of the sidecar, whose traffic is not redirected")
	f.StringVar(&o.options.PullPolicy, "imagePullPolicy", "IfNotPresent", "pull policy of the sidecar's image: Always, IfNotPresent or Never")
	f.StringVar(&o.meshConfig, "meshConfigFile", "", "`FILE` with the MeshConfig of the cluster, - for standard input: whether bypassing is allowed")
	f.StringVar(&o.options.Server, "serverAddress", inject.DefaultServer, "`HOST:PORT` at which the sidecar reaches sluice-server")
	for name, instead := range unsupportedInjectFlags {
		f.String(name, "", instead)
		_ = f.MarkHidden(name)
	}
	return cmd
}

// unsupportedInjectFlags are flags of Istio 0.5 that mean nothing here, and why.
var unsupportedInjectFlags = map[string]string{
	"meshConfigMapName": "settings of the mesh are the MeshConfig named default: give it by --meshConfigFile",
	"injectConfigFile":  "the sidecar has no template to choose",
	"emitTemplate":      "the sidecar has no template to print",
	"coreDump":          "the sidecar writes no core dumps",
	"debug":             "there is one image",
	"setVersionString":  "the annotation sluice.dev/status holds a hash of what was injected",
	"verbosity":         "the sidecar's log level is SLUICE_LOG_LEVEL",
}

func kubeInject(cmd *cobra.Command, o *injectFlags) error {
	for name, instead := range unsupportedInjectFlags {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s is not supported: %s", name, instead)
		}
	}
	if len(o.files) == 0 {
		return errNoFile
	}
	files, err := expandFiles(o.files)
	if err != nil {
		return err
	}
	if o.hub == "" || o.tag == "" {
		return errors.New("--hub and --tag must name the image of the sidecar")
	}
	o.options.Image = inject.ImageOf(o.hub, o.tag)
	if o.meshConfig != "" {
		if o.options.AllowBypass, err = allowsBypass(cmd, o.meshConfig); err != nil {
			return fmt.Errorf("--meshConfigFile: %w", err)
		}
	}
	var all bytes.Buffer
	var problems inject.Problems
	for i, file := range files {
		name, from, err := openInput(cmd, file)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(from, inject.MaxBytes+1))
		from.Close()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		result, err := inject.File(name, data, o.options)
		if more := (inject.Problems)(nil); errors.As(err, &more) {
			problems = append(problems, more...)
			continue
		}
		for _, note := range result.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), "Note:", note)
		}
		if i > 0 && all.Len() > 0 {
			all.WriteString("---\n")
		}
		all.Write(result.Data)
		if n := all.Len(); n > 0 && all.Bytes()[n-1] != '\n' {
			all.WriteByte('\n')
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("nothing is written:\n%w", problems)
	}
	write := func(to io.Writer) error {
		_, err := to.Write(all.Bytes())
		return err
	}
	if o.output == "" || o.output == "-" {
		return write(cmd.OutOrStdout())
	}
	if err := writeWhole(o.output, 0o644, write); err != nil { // the output may be an input too
		return fmt.Errorf("write %s: %w", o.output, err)
	}
	return nil
}

// allowsBypass reads the MeshConfig of a file.
func allowsBypass(cmd *cobra.Command, file string) (bool, error) {
	objects, err := readFile(cmd, file)
	if err != nil {
		return false, err
	}
	if err := api.ValidateAll(objects); err != nil {
		return false, err
	}
	for i := range objects {
		if spec, ok := objects[i].Spec.(*v1alpha1.MeshConfigSpec); ok {
			return spec.AllowBypass, nil
		}
	}
	return false, fmt.Errorf("%s holds no MeshConfig", file)
}
