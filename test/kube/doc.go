// Package kube tries the API of sluice-server with the real kubectl, which its module
// builds. It is a module of its own, so that what kubectl needs is not what Sluice links;
// it imports nothing of Sluice, whose binaries it runs: `make test-kube` builds them.
package kube
