// Package kube tries the API of sluice-server with the real kubectl, which its module
// builds; the packages below it try Sluice on a real API server (package cluster). It is a
// module of its own, so that what Kubernetes needs is not what Sluice links: `make test-kube`
// builds all that it runs.
package kube
