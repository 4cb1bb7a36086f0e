package api

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
)

// lazily compiles an expression when it is first needed: most of the processes that have
// this package, such as the init of a sandbox, read no rule.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// Validate returns everything that is wrong with an object, each with the path
// of its field and, where the object was read from a file, its line. It stands
// behind the command line, the embedded rule API and, on a cluster, the webhook.
// The texts for the resources of Istio 0.5 are its own.
func Validate(o *Object) []FieldError {
	kind, err := KindOf(o.APIVersion, o.Kind)
	if err != nil {
		return []FieldError{{Message: err.Error(), Line: o.Origin.Line}}
	}
	v := &validation{origin: o.Origin}
	v.metadata(kind, &o.Metadata)
	switch spec := o.Spec.(type) {
	case *istio.EgressRuleSpec:
		v.egressRule(spec)
	case *istio.RouteRuleSpec:
		v.routeRule(spec)
	case *istio.DestinationPolicySpec:
		v.destinationPolicy(spec)
	case *istio.IngressRuleSpec:
		v.ingressRule(spec, o.Metadata.Annotations)
	case *networking.IngressSpec:
		v.ingress(spec, o.Metadata.Annotations)
	case *v1alpha1.EgressPolicySpec:
		v.egressPolicy(spec)
	case *v1alpha1.MeshServiceSpec:
		v.meshService(spec)
	case *v1alpha1.MeshConfigSpec:
		v.meshConfig(spec)
	default:
		v.fail("spec", "is missing")
	}
	return v.errors
}

// validation collects what is wrong with one object.
type validation struct {
	origin Origin
	errors []FieldError
}

func (v *validation) fail(path, format string, arguments ...any) {
	if len(v.errors) < maxProblems {
		v.errors = append(v.errors, newFieldError(path, v.origin.LineOf(path), format, arguments...))
	}
}

// failIf notes an error under a path, if there is one.
func (v *validation) failIf(path string, err error) {
	if err != nil {
		v.fail(path, "%v", err)
	}
}

// Bounds of metadata, those of Kubernetes.
const (
	maxName       = 253
	maxLabelKey   = 63 // behind the slash
	maxLabelValue = 63
	maxLabels     = 64 // of one object or selector; ours
)

// labelWord is what a Kubernetes label's key (behind the slash) and value are made of.
var labelWord = lazily(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

// isLabel says whether s is a label of RFC 1123. As an expression it took 70 kB of each
// process that reads a namespace.
func isLabel(s string) bool {
	const most = 63
	if s == "" || len(s) > most || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// IsNamespace reports whether s can be the name of a namespace.
func IsNamespace(s string) bool { return isLabel(s) }

// CheckNamespace says of a namespace of the command line why it cannot be one.
func CheckNamespace(s string) error {
	if IsNamespace(s) {
		return nil
	}
	return fmt.Errorf("--namespace %q cannot be a namespace: lower-case letters, digits and inner hyphens, at most 63", s)
}

// CheckNamespaced refuses a namespace of the command line where nothing that is named is
// in any: it would be read and ignored.
func CheckNamespaced(kinds ...*Kind) error {
	for _, kind := range kinds {
		if kind.Namespaced {
			return nil
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	return fmt.Errorf("a %s is the whole mesh's and in no namespace: leave --namespace out", kinds[0].Name)
}

func (v *validation) metadata(kind *Kind, m *Meta) {
	switch {
	case m.Name == "":
		v.fail("metadata.name", "is missing")
	case kind.Name == "MeshService" && !isLabel(m.Name):
		v.fail("metadata.name", "%q is not a DNS label (lower-case letters, digits and inner hyphens, at most 63): a service's name is part of its host name", m.Name)
	case !isDNSName(m.Name):
		v.fail("metadata.name", "%q is not a name (lower-case letters, digits, inner hyphens and dots, at most %d)", m.Name, maxName)
	case kind.Name == "MeshConfig" && m.Name != v1alpha1.MeshConfigName:
		v.fail("metadata.name", "must be %s: there is one MeshConfig", v1alpha1.MeshConfigName)
	}
	switch {
	case kind.Namespaced && m.Namespace == "":
		v.fail("metadata.namespace", "is missing")
	case kind.Namespaced && !IsNamespace(m.Namespace):
		v.fail("metadata.namespace", "%q is not a DNS label", m.Namespace)
	case !kind.Namespaced && m.Namespace != "":
		v.fail("metadata.namespace", "a %s is cluster-scoped and has no namespace", kind.Name)
	}
	v.labels("metadata.labels", m.Labels)
}

// labels validates labels of Kubernetes' form: "app", "example.com/app".
func (v *validation) labels(path string, labels map[string]string) {
	if len(labels) > maxLabels {
		v.fail(path, "more than %d labels", maxLabels)
		return
	}
	for _, key := range sortedKeys(labels) {
		here := path + "[" + key + "]"
		prefix, name, slashed := strings.Cut(key, "/")
		if !slashed {
			prefix, name = "", key
		}
		if len(name) > maxLabelKey || !labelWord().MatchString(name) || slashed && !isDNSName(prefix) {
			v.fail(here, "%q is not a label's name", key)
		}
		if value := labels[key]; value != "" && (len(value) > maxLabelValue || !labelWord().MatchString(value)) {
			v.fail(here, "%q is not a label's value", value)
		}
	}
}

// isDNSName reports whether s is dot-separated DNS labels.
func isDNSName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// portNumber validates a port's number; the text is Istio 0.5's.
func (v *validation) portNumber(path string, port int32) bool {
	if port < 1 || port > 65535 {
		v.fail(path, "port number %d must be in the range 1..65535", port)
		return false
	}
	return true
}

// Bounds of a bundle of certificates.
const (
	maxBundleBytes        = 256 << 10
	maxBundleCertificates = 512
)

// certificates validates PEM that holds certificates and nothing else.
func certificates(bundle string) error {
	if len(bundle) > maxBundleBytes {
		return fmt.Errorf("more than %d bytes", maxBundleBytes)
	}
	count := 0
	rest := []byte(bundle)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a block %q: only certificates belong here", block.Type)
		}
		count++
		if count > maxBundleCertificates {
			return fmt.Errorf("more than %d certificates", maxBundleCertificates)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", count, err)
		}
	}
	if count == 0 {
		return errors.New("holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return fmt.Errorf("holds something that is not a PEM block after certificate %d", count)
	}
	return nil
}
