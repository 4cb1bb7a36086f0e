package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice.dev/sluice/api"
)

// addFileFlag gives a command -f.
func addFileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "`FILE` of objects, YAML or JSON; a folder of such files, a pattern, or - for standard input; may be repeated")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "filename" { // as kubectl calls it
			name = "file"
		}
		return pflag.NormalizedName(name)
	})
}

// errNoFile is said where -f is missing; the text is Istio 0.5's.
var errNoFile = errors.New("filename not specified (see --filename or -f)")

// readObjects reads every object of the files and gives each its namespace: that
// of the object, else that of -n, else the default one. Where both are said they
// must agree.
func readObjects(cmd *cobra.Command, files []string) ([]api.Object, error) {
	if len(files) == 0 {
		return nil, errNoFile
	}
	files, err := expandFiles(files)
	if err != nil {
		return nil, err
	}
	var objects []api.Object
	for _, file := range files {
		read, err := readFile(cmd, file)
		if err != nil {
			return nil, err
		}
		objects = append(objects, read...)
	}
	namespace, given := namespaceFor(cmd)
	for i := range objects {
		objects[i].SetNamespace(namespace)
		if own := objects[i].Metadata.Namespace; given && own != "" && own != namespace {
			return nil, fmt.Errorf("the namespace from the provided object %q does not match the namespace %q. You must pass '--namespace=%s' to perform this operation", own, namespace, own)
		}
	}
	return objects, nil
}

// openInput opens a file, or standard input for "-", and returns what errors call it.
func openInput(cmd *cobra.Command, file string) (name string, from io.ReadCloser, err error) {
	if file == "-" {
		return "standard input", io.NopCloser(cmd.InOrStdin()), nil
	}
	from, err = os.Open(file)
	return file, from, err
}

// readFile reads the objects of one file.
func readFile(cmd *cobra.Command, file string) ([]api.Object, error) {
	name, from, err := openInput(cmd, file)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	objects, err := api.Decode(name, from)
	var problems api.Problems
	if errors.As(err, &problems) && !problems.OnlyKinds() {
		return nil, fmt.Errorf("cannot parse proto message: %w", problems)
	}
	return objects, err
}

// validated reads the objects of the files and validates all of them. verb says
// what would be done with them; warn is called with what to know of them.
func validated(cmd *cobra.Command, files []string, verb string, warn func(text string)) ([]api.Object, error) {
	objects, err := readObjects(cmd, files)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, errors.New("nothing to " + verb)
	}
	if err := api.ValidateAll(objects); err != nil {
		return nil, fmt.Errorf("configuration is invalid: %w", err)
	}
	for i := range objects {
		for _, warning := range api.Warnings(&objects[i]) {
			warn(objects[i].ID() + " " + warning)
		}
	}
	return objects, nil
}

// warnOnce returns a function that prints warnings, each once: the server repeats
// what is known without it, and may cut it.
func warnOnce(cmd *cobra.Command) func(text string) {
	var printed []string
	return func(text string) {
		if slices.ContainsFunc(printed, func(before string) bool { return strings.HasPrefix(before, text) }) {
			return
		}
		printed = append(printed, text)
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning:", text)
	}
}

// usageError is a mistake in how a command was written.
func usageError(cmd *cobra.Command, message string) error {
	return fmt.Errorf("%s; see %s --help", message, cmd.CommandPath())
}

// noArguments refuses arguments in the words of Istio 0.5.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, cmd.Name()+" takes no arguments")
	}
	return nil
}

// filesByFlag is noArguments of a command that takes files: what stands alone is said where
// it belongs.
func filesByFlag(cmd *cobra.Command, args []string) error {
	isFile := func(arg string) bool {
		_, err := os.Stat(arg)
		return err == nil || arg == "-"
	}
	if !slices.ContainsFunc(args, isFile) {
		return noArguments(cmd, args)
	}
	return fmt.Errorf("%s takes files behind -f, each of them: %s -f %s", cmd.Name(), cmd.CommandPath(), strings.Join(args, " -f "))
}
