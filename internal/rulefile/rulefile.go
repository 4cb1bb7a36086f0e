// Package rulefile compiles the rules of files, presets and --allow for one workload,
// by the same compiler as the server's. `sluice run` without a server and `sluice why
// --rules` call it. It never speaks to a server and starts nothing.
package rulefile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/rules"
)

// StandardInput is the name of a file of rules that stands for standard input.
const StandardInput = "-"

// Rules is where the rules of one workload come from.
type Rules struct {
	Files []string // of --rules; StandardInput once at most
	// Open opens a file of rules; os.Open where nil.
	Open    func(name string) (io.ReadCloser, error)
	Input   io.Reader    // what StandardInput reads; it is needed where Files names it
	Presets []string     // of --preset
	Allow   []string     // of --allow: HOST[:PORT]
	Host    []uint16     // of --reach-host: ports of this machine's loopback, as HostName
	Private []string     // of --private: CIDRs that the names of every rule may lead to
	More    []api.Object // checked, in the namespace that each names
	Audit   bool         // --audit: what no rule allows passes, and is reported
}

// HostName is this machine's loopback, for a command that may reach some of its ports.
// Nobody is asked for its addresses: ICANN keeps .internal out of the public DNS.
var HostName = names.MustParse("host.sluice.internal")

// HostAddresses are the addresses of HostName.
func HostAddresses() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// reachHost is the rule of --reach-host.
func reachHost(port uint16) (policy.Rule, error) {
	host, err := names.ExactPattern(HostName)
	rule := policy.Rule{
		ID: "--reach-host " + strconv.Itoa(int(port)), Hosts: []names.Pattern{host},
		Ports: []policy.Port{{Port: port, Protocol: policy.ProtocolTCP}},
	}
	for _, a := range HostAddresses() {
		rule.PrivateAnswers = append(rule.PrivateAnswers, netip.PrefixFrom(a, a.BitLen()))
	}
	return rule, err
}

// Any reports whether there are rules at all.
func (r *Rules) Any() bool { return len(r.Files)+len(r.Presets)+len(r.Allow)+len(r.Host) > 0 }

// Compile compiles the rules for one workload, by the same compiler as the server's.
// What is odd about them goes to words.
func (r Rules) Compile(workload wire.Workload, words io.Writer) (*wire.Snapshot, error) {
	objects, allow, private, err := r.read(workload.Namespace)
	if err != nil {
		return nil, err
	}
	objects = append(objects, r.More...)
	if workload, err = workload.Normalize(); err != nil {
		return nil, err
	}
	out := compile.Compile(compile.Input{
		Objects: objects, Workloads: []wire.Workload{workload}, Allow: allow, Private: private, Audit: r.Audit, Created: time.Now(),
	})
	for _, problem := range out.Problems {
		fmt.Fprintf(words, "sluice: %s: %s\n", problem.Object, problem.Text)
	}
	compiled, err := out.ForWorkload(workload)
	if err != nil {
		return nil, fmt.Errorf("compile the rules: %w", err)
	}
	return compiled, nil
}

// read reads and checks all of it, and reports all that is wrong.
func (r *Rules) read(namespace string) (objects []api.Object, allow []policy.Rule, private []netip.Prefix, err error) {
	var wrong []error
	add := func(found []api.Object, err error) {
		objects = append(objects, found...)
		wrong = append(wrong, err)
	}
	asked := false
	for _, file := range r.Files {
		if file != StandardInput {
			add(r.readFile(file, namespace))
			continue
		}
		if asked {
			wrong = append(wrong, errors.New("--rules - is given twice: standard input is read once"))
			continue
		}
		asked = true
		add(decode("standard input", r.Input, namespace))
	}
	for _, preset := range r.Presets {
		file, err := rules.Preset(preset)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		add(decode("preset "+preset, bytes.NewReader(file), namespace))
	}
	for _, text := range r.Allow {
		rule, err := advice.ParseAllow(text)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		allow = append(allow, rule)
	}
	for _, port := range r.Host {
		rule, err := reachHost(port)
		wrong = append(wrong, err)
		allow = append(allow, rule)
	}
	for _, text := range r.Private {
		cidr, err := privateRange(text)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		private = append(private, cidr)
	}
	if len(private) > 0 && !r.Any() {
		wrong = append(wrong, errors.New("--private says where the names of --allow, --rules and --preset may lead, and there are none"))
	}
	return objects, allow, private, errors.Join(wrong...)
}

// privateRange reads a range of --private. Only one that lies in one block of special
// addresses is consent to any.
func privateRange(text string) (netip.Prefix, error) {
	cidr, err := addresses.ParseCIDR(text)
	switch {
	case err != nil:
	case !addresses.InOneBlock(cidr):
		err = errors.New("it is not within one range of private addresses, such as 10.0.0.0/8, 192.168.0.0/16 or fd00::/8; public addresses need no consent")
	case addresses.Undialable(cidr.Addr()):
		err = errors.New("addresses of that range are never dialled")
	}
	if err != nil {
		return cidr, fmt.Errorf("--private %s: %w", text, err)
	}
	return cidr, nil
}

// readFile reads and checks the rules of a file.
func (r *Rules) readFile(file, namespace string) ([]api.Object, error) {
	open := r.Open
	if open == nil {
		open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	}
	f, err := open(file)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	defer f.Close()
	return decode(file, f, namespace)
}

// decode reads and checks rules. Those that name no namespace stand in the workload's.
func decode(name string, from io.Reader, namespace string) ([]api.Object, error) {
	objects, err := api.Decode(name, from)
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
