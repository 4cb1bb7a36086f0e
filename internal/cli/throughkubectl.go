package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/tail"
)

// kubectlFlags say which cluster a command works on: kubectl's own current one, unless they
// name another.
type kubectlFlags struct {
	kubeconfig, context string
	timeout             time.Duration
}

// kubectlContext is the flag of a context.
const kubectlContext = "context"

func (o *kubectlFlags) define(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, flagKubeconfig, "", "`FILE` of the cluster, as kubectl reads it (default: KUBECONFIG, else ~/.kube/config)")
	f.StringVar(&o.context, kubectlContext, "", "`NAME` of the context in it (default: its current one)")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long it may take in all")
}

// given reports whether one of them was given.
func (o *kubectlFlags) given(cmd *cobra.Command) bool {
	for _, name := range []string{flagKubeconfig, kubectlContext, "timeout"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// kubectl is the user's own kubectl, which knows how the cluster is reached and as whom.
type kubectl struct {
	program     string
	global      []string
	out, errOut io.Writer
}

// find returns the kubectl of PATH.
func (o *kubectlFlags) find(cmd *cobra.Command) (*kubectl, error) {
	if o.timeout <= 0 {
		return nil, fmt.Errorf("--timeout %s must be longer than 0", o.timeout)
	}
	program, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, fmt.Errorf("kubectl is not in PATH: %s goes through it; sluice install --print writes the manifests without it", cmd.CommandPath())
	}
	k := &kubectl{program: program, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr()}
	if o.kubeconfig != "" {
		k.global = append(k.global, "--kubeconfig="+o.kubeconfig)
	}
	if o.context != "" {
		k.global = append(k.global, "--context="+o.context)
	}
	return k, nil
}

// run runs kubectl with an input and shows what it says.
func (k *kubectl) run(ctx context.Context, input string, args ...string) error {
	return k.start(ctx, input, k.out, args)
}

// quiet is run without what kubectl says where all is well.
func (k *kubectl) quiet(ctx context.Context, args ...string) error {
	return k.start(ctx, "", io.Discard, args)
}

// output returns what kubectl prints.
func (k *kubectl) output(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	err := k.start(ctx, "", &out, args)
	return out.String(), err
}

// killedAfter is how long a kubectl that was asked to end may take.
const killedAfter = 5 * time.Second

func (k *kubectl) start(ctx context.Context, input string, out io.Writer, args []string) error {
	var said tail.Tail
	cmd := exec.CommandContext(ctx, k.program, append(k.global[:len(k.global):len(k.global)], args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = strings.NewReader(input), out, &said, killedAfter
	err := cmd.Run()
	what := "kubectl " + args[0]
	switch {
	case err == nil:
		if text := said.String(); text != "" { // its warnings
			_, err = fmt.Fprintln(k.errOut, text)
		}
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not end within --timeout: %s", what, said.String())
	case said.String() == "":
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s", what, strings.TrimPrefix(said.String(), "error: "))
}
