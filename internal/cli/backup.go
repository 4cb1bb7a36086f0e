package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/backup"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/internal/version"
)

func newBackupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write every rule and all configuration to a file",
		Long: `Writes every object of the server to a file, - for standard output, as they all were at one
moment, while the server runs and others write. The file is there as a whole or not at all; only its
owner can read it. Not in it: what the server computes (status, versions), the history of changes, what
proxies keep, and the certificate authority of the API: on another machine write each kubeconfig anew.`,
		Example: "  sluice backup rules.backup\n  sluice backup - | ssh backups 'cat > rules.backup'",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			objects, revision, err := client.All(cmd.Context())
			if err != nil {
				return fmt.Errorf("read the rules: %w", err)
			}
			head := backup.Head{Taken: time.Now().UTC().Truncate(time.Second), By: version.String(), Revision: revision}
			if args[0] == "-" {
				return backup.Write(cmd.OutOrStdout(), head, objects)
			}
			if err := writeWhole(args[0], 0o600, func(to io.Writer) error { return backup.Write(to, head, objects) }); err != nil {
				return fmt.Errorf("write %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s of revision %s to %s\n", objectsText(len(objects)), revision, args[0])
			return nil
		},
	}
}

// oneFile wants one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageError(cmd, cmd.Name()+" takes one file, or - for standard input or output")
	}
	return nil
}

// writeWhole writes a file that is there as a whole or not at all. In the place of what is
// no file, such as a device, it puts none; where a link leads to a file it writes that, and
// a link that leads to none it leaves.
func writeWhole(path string, mode fs.FileMode, write func(io.Writer) error) error {
	info, err := os.Stat(path) // which knows a pipe behind /dev/stdout, that has no path
	if err == nil {
		if !info.Mode().IsRegular() {
			return errors.New("it is not a regular file; write - for standard output")
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	} else if _, link := os.Lstat(path); link == nil {
		return err
	}
	return atomicfile.Write(path, mode, write)
}

func objectsText(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

func newRestoreCommand() *cobra.Command {
	var only, prune bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring the rules back that a backup holds",
		Long: `Brings the server's objects into the state of a file of "sluice backup", - for standard input:
creates those that are missing and replaces those that differ. What the file does not hold stays,
and is deleted with --prune. First the file is checked as a whole, and the server tries every
change without keeping it: where it refuses one, nothing is changed.

A change that fails later ends it; those before it stay, and the same command goes on from there.`,
		Example: "  sluice restore rules.backup --dry-run\n  sluice restore rules.backup --prune",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := readBackup(cmd, args[0])
			if err != nil {
				return err
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			plan, err := planRestore(cmd.Context(), client, objects)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if prune {
				plan.changes = append(plan.changes, plan.deletions...)
			}
			trying, err := newClient(cmd, rest.Config{DryRun: true})
			if err != nil {
				return err
			}
			defer trying.Close()
			for _, c := range plan.changes {
				if err := c.do(cmd.Context(), trying); err != nil {
					return fmt.Errorf("nothing is changed: %s: %w", c.object.ID(), err)
				}
			}
			for _, c := range plan.changes {
				said := "Would have " + c.verb
				if !only {
					if err := c.do(cmd.Context(), client); err != nil {
						return fmt.Errorf("%s: %w; what was restored before it stays: the same command goes on", c.object.ID(), err)
					}
					said = c.said
				}
				fmt.Fprintf(out, "%s config %s\n", said, c.object.ID())
			}
			fmt.Fprintf(out, "%s of the backup, %d as they were\n", objectsText(len(objects)), plan.unchanged)
			if left := len(plan.deletions); left > 0 && !prune {
				fmt.Fprintf(cmd.ErrOrStderr(), "Warning: the backup does not hold %s of the server, which stay; --prune deletes them\n", objectsText(left))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&only, "dry-run", false, "say what would be changed, have the server check it, and change nothing")
	f.BoolVar(&prune, "prune", false, "delete what the backup does not hold")
	return cmd
}

func readBackup(cmd *cobra.Command, file string) ([]api.Object, error) {
	name, from, err := openInput(cmd, file)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	_, objects, err := backup.Read(name, from)
	return objects, err
}

// restored is what a restore would do.
type restored struct {
	changes   []change
	deletions []change
	unchanged int
}

// change is one write.
type change struct {
	object     *api.Object
	verb, said string
	do         func(context.Context, *rest.Client) error
}

// planRestore compares a backup with what the server has.
func planRestore(ctx context.Context, client *rest.Client, objects []api.Object) (plan restored, err error) {
	stored, _, err := client.All(ctx)
	if err != nil {
		return plan, fmt.Errorf("read the rules: %w", err)
	}
	left := make(map[string]*api.Object, len(stored))
	for i := range stored {
		left[stored[i].ID()] = &stored[i]
	}
	for i := range objects {
		o := &objects[i]
		there := left[o.ID()]
		delete(left, o.ID())
		if there == nil {
			plan.changes = append(plan.changes, change{o, "created", "Created", func(ctx context.Context, c *rest.Client) error {
				_, err := c.Create(ctx, o)
				return err
			}})
			continue
		}
		same, err := alike(o, there)
		if err != nil {
			return plan, err
		}
		if same {
			plan.unchanged++
			continue
		}
		plan.changes = append(plan.changes, change{o, "replaced", "Replaced", func(ctx context.Context, c *rest.Client) error {
			_, _, err := c.Update(ctx, o, rest.Replace)
			return err
		}})
	}
	for i := range stored { // in the server's order
		o := &stored[i]
		if left[o.ID()] == nil {
			continue
		}
		plan.deletions = append(plan.deletions, change{o, "deleted", "Deleted", func(ctx context.Context, c *rest.Client) error {
			return c.Delete(ctx, o.TypeOf(), o.Metadata.Namespace, o.Metadata.Name)
		}})
	}
	return plan, nil
}

// alike says whether two objects are the same in all that a backup holds.
func alike(a, b *api.Object) (bool, error) {
	var texts [2][]byte
	for i, o := range []*api.Object{a, b} {
		plain := backup.Plain(o)
		var err error
		if texts[i], err = api.Encode(&plain); err != nil {
			return false, err
		}
	}
	return bytes.Equal(texts[0], texts[1]), nil
}
