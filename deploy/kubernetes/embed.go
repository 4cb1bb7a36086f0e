// Package kubernetes holds the manifests of Sluice's namespace and of the rights of its
// server, for the chart and for whoever applies them by hand. It links nothing of Kubernetes.
package kubernetes

import "embed"

// Files is the manifests, at the root.
//
//go:embed *.yaml
var Files embed.FS
