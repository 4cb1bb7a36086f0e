package wire

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/policy"
)

// Bounds of what a workload may say of itself.
const (
	MaxLabels     = 64 // labels of one workload
	MaxLabelValue = 63
	MaxPorts      = 64  // ports that one workload serves on
	MaxProxyName  = 128 // bytes
)

// DefaultNamespace is that of a workload that names none.
const DefaultNamespace = "default"

// word says that a text has 1 to longest bytes, begins and ends with a letter or a digit,
// and has between them those of inside besides. Regular expressions that count so far
// took a third of the start of each process, and of the memory that it begins with.
func word(text string, longest int, upper bool, inside string) bool {
	for i := range len(text) {
		c := text[i]
		alone := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || upper && 'A' <= c && c <= 'Z'
		if !alone && (i == 0 || i == len(text)-1 || strings.IndexByte(inside, c) < 0) {
			return false
		}
	}
	return text != "" && len(text) <= longest
}

func isDNSLabel(text string) bool { return word(text, 63, false, "-") }

// maxSubdomain bounds a DNS subdomain of Kubernetes (RFC 1123), in bytes.
const maxSubdomain = 253

func isDNSSubdomain(text string) bool { return word(text, maxSubdomain, false, "-.") }

func isLabelValue(text string) bool { return text == "" || word(text, MaxLabelValue, true, "-_.") }

// isLabelKey is [PREFIX/]NAME.
func isLabelKey(text string) bool {
	prefix, name, slashed := strings.Cut(text, "/")
	if !slashed {
		return word(text, 63, true, "-_.")
	}
	return isDNSSubdomain(prefix) && word(name, 63, true, "-_.")
}

// Normalize fills what follows from the rest (the namespace, the labels app and
// version) and checks the bounds. It returns a workload that shares nothing with w.
func (w Workload) Normalize() (Workload, error) {
	if w.Namespace == "" {
		w.Namespace = DefaultNamespace
	}
	w.Labels = maps.Clone(w.Labels)
	w.Ports = slices.Compact(slices.Sorted(slices.Values(w.Ports)))
	if w.Labels == nil {
		w.Labels = make(map[string]string, 2)
	}
	var errs []error
	for label, said := range map[string]string{"app": w.Service, "version": w.Version} {
		if said == "" {
			continue
		}
		if other, ok := w.Labels[label]; ok && other != said {
			errs = append(errs, fmt.Errorf("label %s=%s contradicts %s", label, other, said))
		}
		w.Labels[label] = said
	}
	if !isDNSLabel(w.Namespace) {
		errs = append(errs, fmt.Errorf("namespace %q is not a valid DNS label (a-z, 0-9 and \"-\", at most 63)", w.Namespace))
	}
	if w.Service != "" && !isDNSLabel(w.Service) {
		errs = append(errs, fmt.Errorf("service %q is not a valid DNS label (a-z, 0-9 and \"-\", at most 63)", w.Service))
	}
	if !isLabelValue(w.Version) {
		errs = append(errs, fmt.Errorf("version %q is not a valid label value", w.Version))
	}
	if w.Account != "" && !isDNSSubdomain(w.Account) {
		errs = append(errs, fmt.Errorf("service account %q is not a valid DNS subdomain (a-z, 0-9, \"-\" and \".\", at most %d)", w.Account, maxSubdomain))
	}
	if len(w.Labels) > MaxLabels {
		errs = append(errs, fmt.Errorf("%d labels are more than %d", len(w.Labels), MaxLabels))
	}
	for key, value := range w.Labels {
		if !isLabelKey(key) || !isLabelValue(value) {
			errs = append(errs, fmt.Errorf("label %q=%q is not valid", key, value))
			break
		}
	}
	if len(w.Ports) > MaxPorts {
		errs = append(errs, fmt.Errorf("%d ports are more than %d", len(w.Ports), MaxPorts))
	}
	if len(w.Ports) > 0 && w.Ports[0] == 0 {
		errs = append(errs, errors.New("port 0 is not a valid port"))
	}
	w.Protocols = maps.Clone(w.Protocols)
	maps.DeleteFunc(w.Protocols, func(_ uint16, p policy.Protocol) bool { return p == policy.ProtocolNone })
	for _, port := range slices.Sorted(maps.Keys(w.Protocols)) {
		if !slices.Contains(w.Ports, port) {
			errs = append(errs, fmt.Errorf("port %d has a protocol and is not one of the ports", port))
		}
		if err := CheckServiceProtocol(w.Protocols[port]); err != nil {
			errs = append(errs, fmt.Errorf("port %d: %w", port, err))
		}
	}
	unready, err := NormalizeUnready(w.Unready, w.Ports)
	if w.Unready = unready; err != nil {
		errs = append(errs, err)
	}
	if len(w.Proxy) > MaxProxyName {
		errs = append(errs, fmt.Errorf("the proxy's name is longer than %d bytes", MaxProxyName))
	}
	if len(errs) > 0 {
		return Workload{}, fmt.Errorf("workload: %w", errors.Join(errs...))
	}
	return w, nil
}

// Base is the name of a workload without its instance: "details-v2", "details",
// or "command" for one that is not a service.
func (w Workload) Base() string {
	base := w.Service
	if base == "" {
		base = w.Labels["app"]
	}
	if base == "" {
		base = "command"
	}
	if w.Version != "" {
		base += "-" + w.Version
	}
	return base
}

// ClassKey is equal for workloads that the same rules select: everything that a
// rule may look at, and nothing else.
func (w Workload) ClassKey() string {
	var key strings.Builder
	fmt.Fprintf(&key, "%q %q %q", w.Namespace, w.Account, w.Service)
	for _, label := range slices.Sorted(maps.Keys(w.Labels)) {
		fmt.Fprintf(&key, " %q=%q", label, w.Labels[label])
	}
	return key.String()
}
