#!/bin/sh
# Writes what is generated from the kinds: deep copies beside the types, and the
# CRDs under deploy/crds. Run it after a change under api/; it changes nothing
# when nothing changed.
set -eu
cd "$(dirname "$0")/.."

controller_gen() {
	# Outside the module: what the generator needs is not what Sluice links.
	GOFLAGS=-buildvcs=false CGO_ENABLED=0 go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 "$@"
}

controller_gen object:headerFile=hack/header.go.txt paths=./api/istio paths=./api/v1alpha1 paths=./api/kube/...

# Written aside first, so that a kind that is gone leaves no file behind, and a
# failure leaves the old ones.
crds=$(mktemp -d)
trap 'rm -rf "$crds"' EXIT
controller_gen crd:crdVersions=v1,allowDangerousTypes=true,generateEmbeddedObjectMeta=false,maxDescLen=400 paths=./api/kube/... output:crd:dir="$crds"
rm -f deploy/crds/*.yaml
cp "$crds"/*.yaml deploy/crds/
chmod 644 deploy/crds/*.yaml
gofmt -l -w api
