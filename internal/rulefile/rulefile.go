// Package rulefile compiles the rules of files and of --allow for one workload, by
// the same compiler as the server's. `sluice run` without a server and `sluice why
// --rules` call it. It never speaks to a server and starts nothing.
package rulefile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// Rules is where the rules of one workload come from.
type Rules struct {
	Files []string // of --rules
	Allow []string // of --allow: HOST[:PORT]
	Audit bool     // --audit: what no rule allows passes, and is reported
}

// Compile compiles the rules for one workload, by the same compiler as the server's.
// What is odd about them goes to words.
func (r Rules) Compile(workload wire.Workload, words io.Writer) (*wire.Snapshot, error) {
	var objects []api.Object
	var wrong []error
	for _, file := range r.Files {
		found, err := read(file, workload.Namespace)
		if err != nil {
			wrong = append(wrong, err)
		}
		objects = append(objects, found...)
	}
	var allow []policy.Rule
	for _, text := range r.Allow {
		rule, err := advice.ParseAllow(text)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		allow = append(allow, rule)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	workload, err := workload.Normalize()
	if err != nil {
		return nil, err
	}
	out := compile.Compile(compile.Input{Objects: objects, Workloads: []wire.Workload{workload}, Allow: allow, Audit: r.Audit, Created: time.Now()})
	for _, problem := range out.Problems {
		fmt.Fprintf(words, "sluice: %s: %s\n", problem.Object, problem.Text)
	}
	compiled, err := out.ForWorkload(workload)
	if err != nil {
		return nil, fmt.Errorf("compile the rules: %w", err)
	}
	return compiled, nil
}

// read reads and checks the rules of a file. Those that name no namespace
// stand in the workload's.
func read(file, namespace string) ([]api.Object, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	defer f.Close()
	objects, err := api.Decode(file, f)
	if err != nil {
		return nil, err
	}
	for i := range objects {
		o := &objects[i]
		if kind := o.TypeOf(); kind != nil && kind.Namespaced && o.Metadata.Namespace == "" {
			o.Metadata.Namespace = cmp.Or(namespace, wire.DefaultNamespace)
		}
	}
	if err := api.ValidateAll(objects); err != nil {
		return nil, err
	}
	return objects, nil
}
