package inject

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// Options is what holds for every Pod.
type Options struct {
	Image      string // of sluice-proxy, with its tag or digest
	PullPolicy string // IfNotPresent where empty
	ProxyUID   int    // whose traffic is not redirected; DefaultUID where 0
	Server     string // ADDRESS:PORT of sluice-server; DefaultServer where empty
	// IncludeIPRanges is the destinations whose connections go through the sidecar, comma
	// separated; "" or "*" for all. Any other bypasses it, and needs AllowBypass.
	IncludeIPRanges string
	AllowBypass     bool // spec.allowBypass of the MeshConfig
}

// What Options leave out.
const (
	DefaultUID    = 1337
	DefaultServer = "sluice-server.sluice-system.svc:15012"
)

// proxyGroup is the group of the sidecar. What a Pod does not say of a container's user and
// group, its image does: many have a user 1337, and none by accident this group beside it. It is
// below 65,536, for a Pod in a user namespace of its own has no others.
func proxyGroup(uid int) int { return 1<<15 | uid&(1<<15-1) }

// maxRanges bounds the ranges and the ports of one annotation.
const maxRanges = 64

// Check says what is wrong with the options, whatever Pod they are for.
func (o Options) Check() error { return o.validate() }

// DefaultHub is where the images are named, unless somebody says otherwise.
const DefaultHub = "sluice.dev"

// ImageOf is the sidecar's image of a hub.
func ImageOf(hub, tag string) string { return hub + "/sluice-proxy:" + tag }

func (o *Options) validate() error {
	if o.PullPolicy == "" {
		o.PullPolicy = "IfNotPresent"
	}
	if o.ProxyUID == 0 {
		o.ProxyUID = DefaultUID
	}
	if o.Server == "" {
		o.Server = DefaultServer
	}
	switch {
	case o.Image == "":
		return errors.New("the image of sluice-proxy is missing")
	case !slices.Contains([]string{"Always", "IfNotPresent", "Never"}, o.PullPolicy):
		return fmt.Errorf("imagePullPolicy %q must be Always, IfNotPresent or Never", o.PullPolicy)
	case o.ProxyUID < 1 || o.ProxyUID > 1<<31-1:
		return fmt.Errorf("sidecarProxyUID %d must be a user other than root, from 1 to %d", o.ProxyUID, 1<<31-1)
	}
	if strings.ContainsFunc(o.Image, unicode.IsSpace) {
		return fmt.Errorf("the image %q of sluice-proxy holds white space", o.Image)
	}
	host, port, err := net.SplitHostPort(o.Server)
	if err != nil || host == "" || strings.ContainsFunc(host, unicode.IsSpace) {
		return fmt.Errorf("serverAddress %q must be HOST:PORT", o.Server)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("serverAddress %q: %q is not a port from 1 to 65535", o.Server, port)
	}
	if _, err := parseRanges(o.IncludeIPRanges); err != nil {
		return fmt.Errorf("includeIPRanges: %w", err)
	}
	return nil
}

// Annotations of the template of a Pod. Those of Istio mean what they meant there.
const (
	annotationStatus      = "sluice.dev/status"
	annotationInject      = "sidecar.istio.io/inject"
	annotationIncludeOut  = "traffic.sidecar.istio.io/includeOutboundIPRanges"
	annotationExcludeOut  = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
	annotationIncludeIn   = "traffic.sidecar.istio.io/includeInboundPorts"
	annotationExcludeIn   = "traffic.sidecar.istio.io/excludeInboundPorts"
	annotationIstioStatus = "sidecar.istio.io/status"
	prefixSidecar         = "sidecar.istio.io/"
	prefixTraffic         = "traffic.sidecar.istio.io/"
)

// settings is what the annotations of one Pod and the options come to.
type settings struct {
	include, exclude     []string // ranges of destinations; no include: all
	includeIn, excludeIn []string // ports; no include: all
	noInbound            bool     // no port comes in through the sidecar
	bypassed             []string // why not all of the Pod's traffic goes through it
	lowered              []string // why somebody in the Pod may get around it
}

// settings reads the annotations of a Pod. ok is false where one of them is refused.
func (w *worker) settings(template *yaml.Node) (s settings, ok bool) {
	before := len(w.problems)
	annotations := get(template, "metadata", "annotations")
	include := w.options.IncludeIPRanges
	if annotations != nil && annotations.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(annotations.Content); i += 2 {
			key, value := annotations.Content[i], annotations.Content[i+1]
			var err error
			switch key.Value {
			case annotationInject, annotationStatus:
			case annotationIncludeOut:
				if include != "" && !sameRanges(include, value.Value) {
					err = fmt.Errorf("says %q and --includeIPRanges %q: leave one out", value.Value, include)
				} else if value.Value == "" {
					err = errors.New(`is empty, which would take nothing through the sidecar: write "*" for everything, or leave it out`)
				}
				include = value.Value
			case annotationExcludeOut:
				if s.exclude, err = parseRanges(value.Value); err == nil && len(s.exclude) > 0 {
					s.bypassed = append(s.bypassed, "destinations in "+strings.Join(s.exclude, ", "))
				}
			case annotationIncludeIn:
				s.includeIn, err = parsePorts(value.Value)
				s.noInbound = value.Value == ""
			case annotationExcludeIn:
				s.excludeIn, err = parsePorts(value.Value)
			case annotationIstioStatus:
				err = errors.New("says that the Pod has the sidecar of Istio: start from the file before that was injected")
			default:
				if strings.HasPrefix(key.Value, prefixSidecar) || strings.HasPrefix(key.Value, prefixTraffic) {
					err = errors.New("is not supported: leave it out")
				}
			}
			if err != nil {
				w.fail(key, "annotation %s %v", key.Value, err)
			}
		}
	}
	ranges, err := parseRanges(include)
	if err != nil {
		w.fail(annotations, "annotation %s %v", annotationIncludeOut, err)
	}
	if s.include = ranges; len(ranges) > 0 {
		s.bypassed = append(s.bypassed, "destinations outside "+strings.Join(ranges, ", "))
	}
	return s, len(w.problems) == before
}

// turnedOff reports whether a Pod asks for no sidecar, in the words of Istio.
func turnedOff(template *yaml.Node) (at *yaml.Node, off bool) {
	for _, place := range []string{"annotations", "labels"} {
		if at = get(template, "metadata", place, annotationInject); at != nil {
			switch strings.ToLower(at.Value) {
			case "n", "no", "false", "off":
				return at, true
			}
		}
	}
	return nil, false
}

// parseRanges reads CIDRs between commas; "" and "*" are none, for all.
func parseRanges(text string) (ranges []string, err error) {
	if text = strings.TrimSpace(text); text == "" || text == "*" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/8", strings.TrimSpace(part))
		}
		if prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is IPv4-mapped: write it as IPv4", part)
		}
		if one := prefix.Masked().String(); !slices.Contains(ranges, one) {
			ranges = append(ranges, one)
		}
	}
	if len(ranges) > maxRanges {
		return nil, fmt.Errorf("%d ranges: at most %d are supported", len(ranges), maxRanges)
	}
	return ranges, nil
}

func sameRanges(a, b string) bool {
	left, err := parseRanges(a)
	right, other := parseRanges(b)
	return err == nil && other == nil && slices.Equal(left, right)
}

// parsePorts reads ports between commas; "" and "*" are none.
func parsePorts(text string) (ports []string, err error) {
	if text = strings.TrimSpace(text); text == "" || text == "*" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not a port from 1 to 65535", strings.TrimSpace(part))
		}
		if port := strconv.FormatUint(n, 10); !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if len(ports) > maxRanges {
		return nil, fmt.Errorf("%d ports: at most %d are supported", len(ports), maxRanges)
	}
	return ports, nil
}
