package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/rest"
)

func newCreateCommand() *cobra.Command {
	return writeCommand("create", "Create rules and configuration",
		`Creates each object of a file, in its order. All of them are read and validated before the first
is created; where one fails on the server, those before it stay and those after it are not tried.`,
		create)
}

func newReplaceCommand() *cobra.Command {
	return writeCommand("replace", "Replace rules and configuration that exist",
		`Replaces the spec, labels and annotations of each object of a file, which must exist. An object
that says metadata.resourceVersion is replaced only if that is still its version.`,
		replace)
}

func newApplyCommand() *cobra.Command {
	return writeCommand("apply", "Create rules and configuration, or replace them where they exist",
		`Creates each object of a file that does not exist. Of one that does, the spec becomes that of the
file as a whole; labels and annotations that the file does not name stay.`,
		apply)
}

// writer stores one object and returns it as it is stored, and what is to be said of it.
type writer func(context.Context, *rest.Client, *api.Object) (stored api.Object, said string, err error)

// writeOptions are the flags of the commands that store objects.
type writeOptions struct {
	files    []string
	dryRun   dryRun
	wait     time.Duration
	prune    bool
	selector string
}

func writeCommand(verb, short, long string, write writer) *cobra.Command {
	var o writeOptions
	cmd := &cobra.Command{
		Use: verb + " -f FILE", Short: short, Long: long, Args: filesByFlag,
		Example: "  sluice " + verb + " -f samples/bookinfo/kube/egress-rule-google-apis.yaml\n  sluice " + verb + " -f - < rules.yaml",
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd, verb, write) },
	}
	f := cmd.Flags()
	addFileFlag(cmd, &o.files)
	f.Var(&o.dryRun, "dry-run", "have the server check everything, and store nothing")
	f.Lookup("dry-run").NoOptDefVal = "true"
	f.DurationVar(&o.wait, "wait", 0, "wait until every connected proxy runs each object, so long at most (without a value: 30s)")
	f.Lookup("wait").NoOptDefVal = defaultWait.String()
	if verb == "apply" {
		f.BoolVar(&o.prune, "prune", false, "then delete the objects that carry the labels of -l and are in none of the files, in the namespaces of these")
		f.StringVarP(&o.selector, "selector", "l", "", "labels of --prune, as in app=books,team=web; each object of the files must carry them")
	}
	return cmd
}

func (o *writeOptions) run(cmd *cobra.Command, verb string, write writer) error {
	labels, err := o.check(cmd)
	if err != nil {
		return err
	}
	warn := warnOnce(cmd)
	objects, err := validated(cmd, o.files, verb, warn)
	if err != nil {
		return err
	}
	if o.prune {
		if err := labels.checkApplied(objects); err != nil {
			return err
		}
	}
	client, err := newClient(cmd, rest.Config{Warn: warn, DryRun: bool(o.dryRun)})
	if err != nil {
		return err
	}
	defer client.Close()
	say := func(text string) {
		if bool(o.dryRun) {
			text += " (dry run: nothing is stored)"
		}
		fmt.Fprintln(cmd.OutOrStdout(), text)
	}
	written := make([]api.Object, 0, len(objects))
	for i := range objects {
		stored, said, err := write(cmd.Context(), client, &objects[i])
		if err != nil {
			return err
		}
		written = append(written, stored)
		say(said)
	}
	if o.prune {
		if err := labels.prune(cmd.Context(), client, written, say); err != nil {
			return err
		}
	}
	if !cmd.Flags().Changed("wait") {
		return nil
	}
	for i := range written {
		if err := await(cmd.Context(), client, &written[i], o.wait); err != nil {
			return err
		}
		say("In force: " + written[i].ID())
	}
	return nil
}

// check says which flags do not go together, and reads the labels of --prune.
func (o *writeOptions) check(cmd *cobra.Command) (selector, error) {
	waits := cmd.Flags().Changed("wait")
	switch {
	case waits && o.wait <= 0:
		return nil, fmt.Errorf("--wait %s must be longer than 0", o.wait)
	case waits && bool(o.dryRun):
		return nil, errors.New("--wait and --dry-run exclude each other: nothing comes into force that is not stored")
	case o.prune && o.selector == "":
		return nil, errors.New("--prune needs --selector: without labels it would delete what others wrote")
	case !o.prune && o.selector != "":
		return nil, errors.New("--selector is for --prune")
	case !o.prune:
		return nil, nil
	}
	return parseSelector(o.selector)
}

func create(ctx context.Context, client *rest.Client, o *api.Object) (api.Object, string, error) {
	created, err := client.Create(ctx, o)
	if err != nil {
		return api.Object{}, "", err
	}
	said := "Created config " + created.ID()
	if created.Metadata.ResourceVersion != "" { // a dry run gives none
		said += " at revision " + created.Metadata.ResourceVersion
	}
	return created, said, nil
}

func replace(ctx context.Context, client *rest.Client, o *api.Object) (api.Object, string, error) {
	updated, _, err := client.Update(ctx, o, rest.Replace)
	if rest.IsNotFound(err) {
		return api.Object{}, "", fmt.Errorf("revision is required: %s does not exist, create it first", o.ID())
	}
	if err != nil {
		return api.Object{}, "", err
	}
	return updated, saidOfUpdate(client, &updated), nil
}

// saidOfUpdate says the new revision, which a dry run has not got.
func saidOfUpdate(client *rest.Client, updated *api.Object) string {
	said := "Updated config " + updated.ID()
	if !client.DryRun() {
		said += " to revision " + updated.Metadata.ResourceVersion
	}
	return said
}

// apply creates or updates. Where somebody else creates or deletes the object in
// between, it begins again, once.
func apply(ctx context.Context, client *rest.Client, o *api.Object) (api.Object, string, error) {
	for try := 1; ; try++ {
		updated, changed, err := client.Update(ctx, o, rest.Apply)
		switch {
		case err == nil && !changed:
			return updated, fmt.Sprintf("Unchanged config %s at revision %s", updated.ID(), updated.Metadata.ResourceVersion), nil
		case err == nil:
			return updated, saidOfUpdate(client, &updated), nil
		case !rest.IsNotFound(err):
			return api.Object{}, "", err
		}
		created, said, err := create(ctx, client, o)
		if rest.IsAlreadyExists(err) && try == 1 {
			continue
		}
		return created, said, err
	}
}

func newDeleteCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "delete (TYPE NAME... | TYPE/NAME... | -f FILE)",
		Short: "Delete rules and configuration",
		Long:  "Deletes the named objects of a type, or the objects of a file.",
		Example: `  sluice delete egressrule googleapis
  sluice delete -f samples/bookinfo/kube/egress-rule-google-apis.yaml`,
		ValidArgsFunction: completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) > 0 && len(args) > 0:
				return usageError(cmd, "delete takes no arguments when the file option is used")
			case len(files) > 0:
				return deleteFiles(cmd, files)
			case len(args) == 0 || len(args) == 1 && !strings.Contains(args[0], "/"):
				return usageError(cmd, "provide configuration type and name or -f option")
			}
			return deleteNames(cmd, args)
		},
	}
	addFileFlag(cmd, &files)
	return cmd
}

// deleteNames deletes objects by name. It tries all of them.
func deleteNames(cmd *cobra.Command, args []string) error {
	refs, err := parseReferences(cmd, args)
	if err != nil {
		return err
	}
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	var failures []string
	for _, ref := range refs {
		err := client.Delete(cmd.Context(), ref.Kind, ref.Namespace, ref.Name)
		if errors.Is(err, rest.ErrNoServer) {
			return err
		}
		if err != nil {
			failures = append(failures, fmt.Sprintf("cannot delete %s: %v", ref.Name, err))
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted config: %s %s\n", ref.Word, ref.Name)
	}
	return listOf(failures)
}

// deleteFiles deletes the objects that stand in files. It tries all of them.
func deleteFiles(cmd *cobra.Command, files []string) error {
	objects, err := readObjects(cmd, files)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return errors.New("nothing to delete")
	}
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	var failures []string
	for i := range objects {
		o := &objects[i]
		if o.Metadata.Name == "" {
			failures = append(failures, fmt.Sprintf("cannot delete the %s at %s:%d: it has no name", o.Kind, o.Origin.File, o.Origin.Line))
			continue
		}
		err := client.Delete(cmd.Context(), o.TypeOf(), o.Metadata.Namespace, o.Metadata.Name)
		if errors.Is(err, rest.ErrNoServer) {
			return err
		}
		if err != nil {
			failures = append(failures, fmt.Sprintf("cannot delete %s: %v", o.ID(), err))
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted config: %s\n", o.ID())
	}
	return listOf(failures)
}

// listOf makes one error of messages in the form of Istio 0.5, or nil of none.
func listOf(messages []string) error {
	if len(messages) == 0 {
		return nil
	}
	return errors.New(api.ErrorList(messages))
}
