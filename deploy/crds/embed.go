// Package crds holds the CustomResourceDefinitions that hack/generate.sh writes
// from api/kube, for the server that installs them where it is the only one. It
// links nothing of Kubernetes, and nobody edits the files by hand.
package crds

import "embed"

// Files is one YAML file for each kind, named GROUP_PLURAL.yaml: at the root, and in the folder
// alone of kinds that a cluster has itself.
//
//go:embed *.yaml alone/*.yaml
var Files embed.FS
