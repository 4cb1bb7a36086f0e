package inject

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Names of what is put into a Pod.
const (
	InitName       = "sluice-init"  // the init container that redirects the Pod's traffic, and ends
	ProxyName      = "sluice-proxy" // the sidecar
	identityVolume = "sluice-identity"
	dataVolume     = "sluice-data"
)

// Where the sidecar finds what is put into the Pod for it.
const (
	IdentityFolder = "/var/run/sluice/identity" // token, labels, root-cert.pem
	dataFolder     = "/var/lib/sluice"
	TokenAudience  = "sluice"
	tokenSeconds   = 3600
	// RootsConfigMap is the ConfigMap of each namespace that holds the roots of the server's
	// certificate, under root-cert.pem.
	RootsConfigMap = "sluice-roots"
)

// Ports of the sidecar in the Pod's namespace.
const (
	OutboundPort = 15001
	InboundPort  = 15006
	HealthPort   = 15020
	DNSPort      = 15053
)

// ReadyPath answers 200 on HealthPort once the first snapshot is there.
const ReadyPath = "/ready"

// pod puts the sidecar into a Pod or a template of one, in the place of an earlier one; it
// reports whether the Pod has it now.
func (w *worker) pod(template *yaml.Node) bool {
	spec := get(template, "spec")
	if spec.Kind != yaml.MappingNode || get(spec, "containers") == nil {
		w.fail(spec, "spec.containers of the Pod is missing")
		return false
	}
	if at, off := turnedOff(template); off {
		if !w.options.AllowBypass {
			w.fail(at, "%s %q would leave the Pod without a sidecar, free to go anywhere: the MeshConfig does not allow it (spec.allowBypass)", annotationInject, at.Value)
			return false
		}
		w.note(at, "%s is %q: no sidecar", annotationInject, at.Value)
		return false
	}
	s, ok := w.settings(template)
	strip(spec)
	if !w.fit(spec, &s) || !ok {
		return false
	}
	if len(s.bypassed) > 0 {
		if !w.options.AllowBypass {
			w.fail(spec, "%s would bypass the sidecar: the MeshConfig does not allow it (spec.allowBypass)", strings.Join(s.bypassed, "; "))
			return false
		}
		w.note(spec, "bypassed: %s; sluice status marks it", strings.Join(s.bypassed, "; "))
	}
	first, proxy := w.initContainer(&s), w.proxyContainer(spec, &s)
	volumes := w.volumes()
	inits := get(spec, "initContainers")
	if inits == nil || inits.Kind != yaml.SequenceNode {
		inits = sequence()
		remove(spec, "initContainers")
		setBefore(spec, "containers", "initContainers", inits)
	}
	inits.Content = append([]*yaml.Node{first, proxy}, inits.Content...)
	held := get(spec, "volumes")
	if held == nil || held.Kind != yaml.SequenceNode {
		held = sequence()
		remove(spec, "volumes")
		set(spec, "volumes", held)
	}
	held.Content = append(held.Content, volumes...)
	w.annotate(template, &s, version(first, proxy, sequence(volumes...)))
	return true
}

// strip takes out what an earlier injection put in, and nothing by what the Pod says of it.
func strip(spec *yaml.Node) {
	for _, part := range []struct {
		of    string
		names []string
	}{{"initContainers", []string{InitName, ProxyName}}, {"volumes", []string{identityVolume, dataVolume}}} {
		held := get(spec, part.of)
		if held == nil || held.Kind != yaml.SequenceNode {
			continue
		}
		held.Content = slices.DeleteFunc(held.Content, func(item *yaml.Node) bool { return slices.Contains(part.names, text(item, "name")) })
	}
}

// annotate writes the annotations of the Pod: what kube-inject was asked for, so that the
// webhook sees it too, and what was put in.
func (w *worker) annotate(template *yaml.Node, s *settings, version string) {
	metadata := get(template, "metadata")
	if metadata == nil || metadata.Kind != yaml.MappingNode {
		metadata = mapping()
		remove(template, "metadata")
		setBefore(template, "spec", "metadata", metadata)
	}
	annotations := get(metadata, "annotations")
	if annotations == nil || annotations.Kind != yaml.MappingNode {
		annotations = mapping()
		remove(metadata, "annotations")
		setBefore(metadata, "labels", "annotations", annotations)
	}
	if len(s.include) > 0 && indexOf(annotations, annotationIncludeOut) < 0 {
		set(annotations, annotationIncludeOut, scalar(strings.Join(s.include, ",")))
	}
	set(annotations, annotationStatus, scalar(`{"version":"`+version+`","initContainers":["`+InitName+`","`+ProxyName+`"],"volumes":["`+identityVolume+`","`+dataVolume+`"]}`))
}

// version tells one injection from another: a hash of what is put in.
func version(nodes ...*yaml.Node) string {
	var out bytes.Buffer
	for _, node := range nodes {
		writeJSON(&out, node)
	}
	sum := sha256.Sum256(out.Bytes())
	return hex.EncodeToString(sum[:])
}

// initContainer redirects the traffic of the Pod and ends, before anything else of it runs.
func (w *worker) initContainer(s *settings) *yaml.Node {
	arguments := []string{"redirect", "--proxy-uid", strconv.Itoa(w.options.ProxyUID), "--proxy-gid", strconv.Itoa(proxyGroup(w.options.ProxyUID))}
	for _, flag := range []struct {
		name   string
		values []string
	}{{"--include-ranges", s.include}, {"--exclude-ranges", s.exclude}, {"--include-inbound-ports", s.includeIn}, {"--exclude-inbound-ports", s.excludeIn}} {
		if s.noInbound && flag.name == "--exclude-inbound-ports" {
			continue // no port is left to exclude
		}
		if len(flag.values) > 0 {
			arguments = append(arguments, flag.name, strings.Join(flag.values, ","))
		}
	}
	if s.noInbound {
		arguments = append(arguments, "--no-inbound")
	}
	return mapping(
		"name", InitName,
		"image", w.options.Image,
		"imagePullPolicy", w.options.PullPolicy,
		"args", arguments,
		"resources", resources("64Mi"),
		"securityContext", mapping(
			"allowPrivilegeEscalation", false,
			"capabilities", mapping("add", []string{"NET_ADMIN"}, "drop", []string{"ALL"}),
			"privileged", false,
			"readOnlyRootFilesystem", true,
			"runAsGroup", 0,
			"runAsNonRoot", false,
			"runAsUser", 0,
			"seccompProfile", mapping("type", "RuntimeDefault"),
		),
		"volumeMounts", sequence(noToken()),
	)
}

// proxyContainer is the sidecar: an init container that goes on, so that the containers of
// the application start once its start-up probe says that it has its rules, and end before it.
func (w *worker) proxyContainer(spec *yaml.Node, s *settings) *yaml.Node {
	arguments := []string{"--sidecar", "--server", w.options.Server}
	for _, port := range listening(spec) {
		arguments = append(arguments, "--listen", port)
	}
	for _, why := range s.bypassed {
		arguments = append(arguments, "--bypassed", why)
	}
	for _, why := range s.lowered {
		arguments = append(arguments, "--lowered", why)
	}
	return mapping(
		"name", ProxyName,
		"image", w.options.Image,
		"imagePullPolicy", w.options.PullPolicy,
		"restartPolicy", "Always",
		"args", arguments,
		"env", sequence(
			field("POD_NAME", "metadata.name"),
			field("POD_NAMESPACE", "metadata.namespace"),
			field("POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
			mapping("name", "SLUICE_DATA", "value", dataFolder+"/data"),
			mapping("name", "SLUICE_RUNTIME", "value", dataFolder+"/run"),
		),
		"startupProbe", mapping(
			"httpGet", mapping("path", ReadyPath, "port", HealthPort),
			"periodSeconds", 1,
			"timeoutSeconds", 1,
			"failureThreshold", 600,
		),
		"resources", resources(""),
		"securityContext", mapping(
			"allowPrivilegeEscalation", false,
			"capabilities", mapping("drop", []string{"ALL"}),
			"privileged", false,
			"readOnlyRootFilesystem", true,
			"runAsGroup", proxyGroup(w.options.ProxyUID),
			"runAsNonRoot", true,
			"runAsUser", w.options.ProxyUID,
			"seccompProfile", mapping("type", "RuntimeDefault"),
		),
		"volumeMounts", sequence(
			mapping("name", identityVolume, "mountPath", IdentityFolder, "readOnly", true),
			mapping("name", dataVolume, "mountPath", dataFolder),
			noToken(),
		),
	)
}

// noToken takes the place where the API server mounts a Pod's token for itself into each
// container that it sees: the sidecar does not need it. (It would not see those that a
// webhook puts in.)
func noToken() *yaml.Node {
	return mapping("name", dataVolume, "mountPath", "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly", true, "subPath", "nothing")
}

func resources(memory string) *yaml.Node {
	requests := mapping("cpu", "10m", "memory", "32Mi")
	if memory == "" {
		return mapping("requests", requests)
	}
	return mapping("limits", mapping("memory", memory), "requests", requests)
}

// field is a variable with a field of the Pod.
func field(name, path string) *yaml.Node {
	return mapping("name", name, "valueFrom", mapping("fieldRef", mapping("fieldPath", path)))
}

// volumes is who the Pod is, as the cluster says it, and where the sidecar keeps what it
// learnt while the Pod lives.
func (w *worker) volumes() []*yaml.Node {
	return []*yaml.Node{
		mapping("name", identityVolume, "projected", mapping("sources", sequence(
			mapping("serviceAccountToken", mapping("audience", TokenAudience, "expirationSeconds", tokenSeconds, "path", "token")),
			mapping("downwardAPI", mapping("items", sequence(mapping("path", "labels", "fieldRef", mapping("fieldPath", "metadata.labels"))))),
			mapping("configMap", mapping("name", RootsConfigMap, "items", sequence(mapping("key", "root-cert.pem", "path", "root-cert.pem")))),
		))),
		mapping("name", dataVolume, "emptyDir", mapping("medium", "Memory", "sizeLimit", "64Mi")),
	}
}
