// Package crds holds the CustomResourceDefinitions that hack/generate.sh writes
// from api/kube, for the server that installs them where it is the only one. It
// links nothing of Kubernetes, and nobody edits the files by hand.
package crds

import "embed"

// Files is one YAML file for each kind, at the root, named GROUP_PLURAL.yaml.
//
//go:embed *.yaml
var Files embed.FS
