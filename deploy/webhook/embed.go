// Package webhook holds the manifest of the webhook that judges rules on a cluster, with
// the rights that its server needs. It links nothing of Kubernetes.
package webhook

import "embed"

// Files is the manifests of every webhook, at the root.
//
//go:embed *.yaml
var Files embed.FS

// Manifest is YAML of several documents.
//
//go:embed validating.yaml
var Manifest []byte

// Configuration is the name of the ValidatingWebhookConfiguration in it.
const Configuration = "sluice"

// Path is where it asks.
const Path = "/validate"
