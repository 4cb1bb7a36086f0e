// Package webhook holds the manifests of the webhooks that judge rules and inject sidecars on
// a cluster, with the rights that their server needs. It links nothing of Kubernetes.
package webhook

import "embed"

// Files is the manifests of every webhook, at the root.
//
//go:embed *.yaml
var Files embed.FS

// Manifest is YAML of several documents: of the webhook that judges rules.
//
//go:embed validating.yaml
var Manifest []byte

// InjectManifest is the same of the webhook that injects sidecars.
//
//go:embed injecting.yaml
var InjectManifest []byte

// Configuration is the name of the ValidatingWebhookConfiguration in the first, and of the
// MutatingWebhookConfiguration in the second.
const Configuration = "sluice"

// Where they ask.
const (
	Path       = "/validate"
	InjectPath = "/inject"
)

// InjectLabel is the label of the namespaces whose Pods get a sidecar, with InjectEnabled as
// its value.
const (
	InjectLabel   = "sluice-injection"
	InjectEnabled = "enabled"
)
