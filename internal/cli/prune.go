package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/internal/rest"
)

// selector is the labels of -l, all of which an object must carry.
type selector map[string]string

// parseSelector reads K=V,K=V.
func parseSelector(text string) (selector, error) {
	wanted := make(selector)
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" || strings.ContainsAny(key, "! ()") {
			return nil, fmt.Errorf("--selector %q: --prune takes labels as in app=books,team=web", text)
		}
		wanted[key] = strings.TrimPrefix(value, "=") // kubectl takes == too
	}
	return wanted, nil
}

func (s selector) matches(o *api.Object) bool {
	for key, value := range s {
		if got, there := o.Metadata.Labels[key]; !there || got != value {
			return false
		}
	}
	return true
}

// String returns the labels as they are written.
func (s selector) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, key+"="+s[key])
	}
	return strings.Join(parts, ",")
}

// checkApplied refuses objects that the next apply would not know for its own.
func (s selector) checkApplied(objects []api.Object) error {
	for i := range objects {
		if o := &objects[i]; !s.matches(o) {
			return fmt.Errorf("%s does not carry the labels %s of --selector: once it leaves the files, --prune would not delete it", o.ID(), s)
		}
	}
	return nil
}

// isAnothers reports whether an object is of a kind of Kubernetes and does not say that it is
// ours: on a cluster it may be another controller's.
func isAnothers(o *api.Object) bool {
	spec, ok := o.Spec.(*networking.IngressSpec)
	return ok && !slices.Contains(networking.Classes, spec.Class(o.Metadata.Annotations))
}

// prune deletes the objects that carry the labels and are not among those that were
// applied, in the namespaces of these, and hands what is to be said of each to say.
func (s selector) prune(ctx context.Context, client *rest.Client, applied []api.Object, say func(string)) error {
	kept := make(map[string]bool)
	namespaces := make(map[string]bool)
	for i := range applied {
		kept[applied[i].ID()] = true
		if applied[i].TypeOf().Namespaced {
			namespaces[applied[i].Metadata.Namespace] = true
		}
	}
	for _, kind := range api.Kinds() {
		in := slices.Sorted(maps.Keys(namespaces))
		if !kind.Namespaced {
			in = []string{""}
		}
		for _, namespace := range in {
			there, err := client.List(ctx, kind, namespace)
			if err != nil {
				return err
			}
			for i := range there {
				o := &there[i]
				if kept[o.ID()] || !s.matches(o) || isAnothers(o) {
					continue
				}
				if err := client.Delete(ctx, kind, o.Metadata.Namespace, o.Metadata.Name); err != nil && !rest.IsNotFound(err) {
					return fmt.Errorf("cannot delete %s: %w", o.ID(), err)
				}
				say("Deleted config: " + o.ID())
			}
		}
	}
	return nil
}
