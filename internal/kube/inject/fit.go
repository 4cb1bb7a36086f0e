package inject

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// container is one of a Pod, and where it stands.
type container struct {
	node *yaml.Node
	name string // "container web", "init container migrate"
	init bool
}

func containers(spec *yaml.Node) (all []container) {
	for _, part := range []struct {
		field, word string
	}{{"initContainers", "init container"}, {"containers", "container"}, {"ephemeralContainers", "ephemeral container"}} {
		for _, node := range list(get(spec, part.field)) {
			all = append(all, container{node, part.word + " " + text(node, "name"), part.field == "initContainers"})
		}
	}
	return all
}

// fit reports whether a sidecar can hold the Pod, and says why not. What gets around it goes
// to the settings: the MeshConfig may allow that.
func (w *worker) fit(spec *yaml.Node, s *settings) bool {
	before := len(w.problems)
	if at := get(spec, "hostNetwork"); isTrue(at) {
		w.fail(at, "hostNetwork: true: its Pods share the network of their node, where a redirect would take the traffic of everybody else: a sidecar cannot hold them; leave hostNetwork out")
	}
	if at := get(spec, "os", "name"); at != nil && at.Value == "windows" {
		w.fail(at, "os windows: not supported")
	}
	ours := []string{strconv.Itoa(OutboundPort), strconv.Itoa(InboundPort), strconv.Itoa(HealthPort), strconv.Itoa(DNSPort)}
	uid, gid := w.options.ProxyUID, proxyGroup(w.options.ProxyUID)
	if at := get(spec, "securityContext", "runAsUser"); isID(at, uid) {
		s.bypassed = append(s.bypassed, fmt.Sprintf("containers that run as the proxy's user %d", uid))
	}
	if at := get(spec, "securityContext", "runAsGroup"); isID(at, gid) {
		s.bypassed = append(s.bypassed, fmt.Sprintf("containers that run in the proxy's group %d", gid))
	}
	if at := get(spec, "securityContext", "fsGroup"); isID(at, gid) || hasID(get(spec, "securityContext", "supplementalGroups"), gid) {
		s.bypassed = append(s.bypassed, fmt.Sprintf("containers that are in the proxy's group %d", gid))
	}
	for _, field := range []string{"shareProcessNamespace", "hostPID"} {
		if isTrue(get(spec, field)) {
			s.bypassed = append(s.bypassed, "containers that share the processes of the sidecar ("+field+")")
		}
	}
	w.resolution(spec, s)
	var root, unknown []string
	for _, c := range containers(spec) {
		switch name := text(c.node, "name"); {
		case name == "istio-proxy" || name == "istio-init":
			w.fail(c.node, "%s: the Pod has the sidecar of Istio: start from the file before that was injected", c.name)
		case name == InitName || name == ProxyName:
			w.fail(c.node, "%s: that name is the sidecar's: take another", c.name)
		}
		for _, port := range list(get(c.node, "ports")) {
			if at := get(port, "containerPort"); at != nil && slices.Contains(ours, at.Value) {
				w.fail(at, "%s: port %s is the sidecar's: take another", c.name, at.Value)
			}
		}
		for _, mount := range list(get(c.node, "volumeMounts")) {
			if name := text(mount, "name"); name == identityVolume || name == dataVolume {
				w.fail(mount, "%s: volume %s is the sidecar's alone", c.name, name)
			}
		}
		if why := getsAround(c.node, uid, gid); why != "" {
			s.bypassed = append(s.bypassed, c.name+" "+why)
		} else if mayBecome(spec, c.node) {
			root = append(root, c.name)
		} else if contextOf(spec, c.node, "runAsUser") == nil && contextOf(spec, c.node, "runAsGroup") == nil {
			unknown = append(unknown, c.name)
		}
	}
	if len(root) > 0 {
		s.lowered = append(s.lowered, strings.Join(root, ", ")+" may be or become root or the proxy's user")
		w.note(spec, "%s may be or become root, who can take the proxy's user or send raw packets around the sidecar: set allowPrivilegeEscalation: false, and runAsNonRoot: true or drop the capabilities SETUID and NET_RAW; sluice status shows level lowered", strings.Join(root, ", "))
	}
	if len(unknown) > 0 {
		s.lowered = append(s.lowered, strings.Join(unknown, ", ")+" runs as whom its image says")
		w.note(spec, "%s: the image alone says as whom it runs, and one that is made for user %d in group %d is taken for the sidecar: set runAsUser or runAsGroup; sluice status shows level lowered", strings.Join(unknown, ", "), uid, gid)
	}
	return len(w.problems) == before
}

// resolution notes where the sidecar, which lives in the Pod, would resolve names as the Pod
// says and not as the cluster does.
func (w *worker) resolution(spec *yaml.Node, s *settings) {
	if at := get(spec, "dnsConfig", "nameservers"); at != nil && len(at.Content) > 0 {
		s.bypassed = append(s.bypassed, "the addresses of names, which nameservers of the Pod's own say (dnsConfig)")
	}
	server, _, _ := net.SplitHostPort(w.options.Server)
	isServer := func(name string) bool { return strings.EqualFold(strings.TrimSuffix(name, "."), server) }
	for _, alias := range list(get(spec, "hostAliases")) {
		names := get(alias, "hostnames")
		if names != nil && slices.ContainsFunc(names.Content, func(n *yaml.Node) bool { return isServer(n.Value) }) {
			w.fail(names, "hostAliases: %s is the server that the sidecar has its rules from: leave it out", server)
		}
	}
	if at := get(spec, "hostnameOverride"); at != nil && isServer(at.Value) {
		w.fail(at, "hostnameOverride: %s is the server that the sidecar has its rules from: leave it out", server)
	}
}

// getsAround says by which right a container gets around the sidecar, "" where by none that
// the Pod gives it.
func getsAround(container *yaml.Node, uid, gid int) string {
	context := get(container, "securityContext")
	switch {
	case isTrue(get(context, "privileged")):
		return "is privileged"
	case isID(get(context, "runAsUser"), uid):
		return fmt.Sprintf("runs as the proxy's user %d", uid)
	case isID(get(context, "runAsGroup"), gid):
		return fmt.Sprintf("runs in the proxy's group %d", gid)
	case slices.Contains([]string{InitName, ProxyName}, text(container, "targetContainerName")):
		return "shares the processes of the sidecar"
	}
	added := get(context, "capabilities", "add")
	if added == nil {
		return ""
	}
	for _, capability := range added.Content {
		switch name := strings.TrimPrefix(strings.ToUpper(capability.Value), "CAP_"); name {
		case "ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "SETUID", "NET_RAW":
			return fmt.Sprintf("has the capability %s", name)
		}
	}
	return ""
}

// mayBecome reports whether a program of a container may be or become root, or the proxy's user,
// with the capabilities that runtimes give by default. Where privileges may be escalated, a setuid
// program of the image is enough, or one that root makes: it needs no capability.
func mayBecome(spec, container *yaml.Node) bool {
	escalates := get(container, "securityContext", "allowPrivilegeEscalation")
	if escalates == nil || !strings.EqualFold(escalates.Value, "false") {
		return true
	}
	user := contextOf(spec, container, "runAsUser")
	if user != nil && !isID(user, 0) || user == nil && isTrue(contextOf(spec, container, "runAsNonRoot")) {
		return false // it has no capabilities then
	}
	var dropped []string
	if drop := get(container, "securityContext", "capabilities", "drop"); drop != nil {
		for _, capability := range drop.Content {
			dropped = append(dropped, strings.TrimPrefix(strings.ToUpper(capability.Value), "CAP_"))
		}
	}
	return !slices.Contains(dropped, "ALL") && !(slices.Contains(dropped, "SETUID") && slices.Contains(dropped, "NET_RAW"))
}

// contextOf is a field of a container's security context or, where that is silent, the Pod's.
func contextOf(spec, container *yaml.Node, name string) *yaml.Node {
	if at := get(container, "securityContext", name); at != nil && !isNull(at) {
		return at
	}
	if at := get(spec, "securityContext", name); at != nil && !isNull(at) {
		return at
	}
	return nil
}

// isID reports whether a node is the number of a user or group, however YAML writes it.
func isID(node *yaml.Node, id int) bool {
	var n float64 // the API server takes 1337.0 too
	return node != nil && node.Decode(&n) == nil && n == float64(id)
}

// hasID reports whether a list holds such a number.
func hasID(list *yaml.Node, id int) bool {
	return list != nil && slices.ContainsFunc(list.Content, func(node *yaml.Node) bool { return isID(node, id) })
}

func isTrue(node *yaml.Node) bool {
	return node != nil && strings.EqualFold(node.Value, "true")
}

// listening is the TCP ports that the containers of the application say they serve.
func listening(spec *yaml.Node) (ports []string) {
	for _, c := range containers(spec) {
		for _, port := range list(get(c.node, "ports")) {
			protocol, number := text(port, "protocol"), text(port, "containerPort")
			if number != "" && !c.init && (protocol == "" || protocol == "TCP") && !slices.Contains(ports, number) {
				ports = append(ports, number)
			}
		}
	}
	return ports
}
