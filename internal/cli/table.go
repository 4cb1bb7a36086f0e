package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
)

// writeTables writes a table for each kind among the objects: the one of Istio 0.5 for
// its kinds, and one that says what an object holds for ours. With everywhere each says
// the namespace too.
func writeTables(w io.Writer, objects []api.Object, everywhere bool, now time.Time) error {
	if len(objects) == 0 {
		return writeNone(w)
	}
	var istios []api.Object
	var kinds []*api.Kind // of ours, in the order of the objects
	of := make(map[*api.Kind][]api.Object)
	for i := range objects {
		kind := objects[i].TypeOf()
		if kind.IsIstio() {
			istios = append(istios, objects[i])
			continue
		}
		if of[kind] == nil {
			kinds = append(kinds, kind)
		}
		of[kind] = append(of[kind], objects[i])
	}
	if len(istios) > 0 {
		if err := writeShort(w, istios); err != nil {
			return err
		}
	}
	for i, kind := range kinds {
		if i > 0 || len(istios) > 0 {
			fmt.Fprintln(w)
		}
		if err := writeTable(w, of[kind], everywhere && kind.Namespaced, now); err != nil {
			return err
		}
	}
	return nil
}

// writeShort writes the table of Istio 0.5. A padding of 1 keeps columns apart whose
// text fills whole tabs, which ran into one another then.
func writeShort(w io.Writer, objects []api.Object) error {
	table := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	fmt.Fprintln(table, "NAME\tKIND\tNAMESPACE")
	for i := range objects {
		o := &objects[i]
		fmt.Fprintf(table, "%s\t%s\t%s\n", o.Metadata.Name, o.TypeOf().FullName(), o.Metadata.Namespace)
	}
	return table.Flush()
}

// writeTable writes the table of one of our kinds.
func writeTable(w io.Writer, objects []api.Object, everywhere bool, now time.Time) error {
	headers, _ := columns(&objects[0])
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	row := func(namespace, name string, own []string, rest ...string) {
		cells := append(append([]string{name}, own...), rest...)
		if everywhere {
			cells = append([]string{namespace}, cells...)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	row("NAMESPACE", "NAME", headers, "ACCEPTED", "AGE")
	for i := range objects {
		o := &objects[i]
		_, cells := columns(o)
		row(o.Metadata.Namespace, o.Metadata.Name, cells, accepted(o), sinceCreation(o, now))
	}
	return table.Flush()
}

// columns is what the table says of the spec of an object of ours.
func columns(o *api.Object) (headers, cells []string) {
	switch spec := o.Spec.(type) {
	case *v1alpha1.EgressPolicySpec:
		var ports []string
		for _, p := range spec.To.Ports {
			ports = append(ports, api.PortText(p.Port, p.Protocol))
		}
		return []string{"TO", "PORTS"}, []string{orDash(api.ShortList(append(spec.To.Hosts, spec.To.CIDRs...))), orDash(api.ShortList(ports))}
	case *v1alpha1.MeshServiceSpec:
		var ports []string
		for _, p := range spec.Ports {
			ports = append(ports, api.PortText(p.Port, p.Protocol))
		}
		return []string{"PORTS"}, []string{orDash(api.ShortList(ports))}
	case *v1alpha1.MeshConfigSpec:
		return []string{"OUTBOUND"}, []string{orDash(spec.OutboundDefault)}
	}
	return nil, nil
}

// statusOfObject reads what the server says of an object; the zero Status where it has said
// nothing yet.
func statusOfObject(o *api.Object) v1alpha1.Status {
	var status v1alpha1.Status
	if len(o.Status) > 0 {
		_ = json.Unmarshal(o.Status, &status) // what cannot be read says nothing
	}
	return status
}

// accepted is an object's condition Accepted in one word. A condition of another
// generation is not about what is there now.
func accepted(o *api.Object) string {
	for _, c := range statusOfObject(o).Conditions {
		if c.Type == "Accepted" && c.ObservedGeneration == o.Metadata.Generation {
			return c.Status
		}
	}
	return "Unknown"
}

func sinceCreation(o *api.Object, now time.Time) string {
	if o.Metadata.CreationTimestamp.IsZero() {
		return "-"
	}
	return age(max(0, now.Sub(o.Metadata.CreationTimestamp)))
}
