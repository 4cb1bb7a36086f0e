#!/bin/sh
# Writes what is generated: from the kinds the deep copies beside the types and the
# CRDs under deploy/crds, and from the program as a whole docs/reference. Run it
# after a change of a kind, a command, a bound or a reason; it changes nothing when
# nothing changed.
set -eu
cd "$(dirname "$0")/.."

controller_gen() {
	# Outside the module: what the generator needs is not what Sluice links.
	GOFLAGS=-buildvcs=false CGO_ENABLED=0 go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 "$@"
}

controller_gen object:headerFile=hack/header.go.txt paths=./api/istio paths=./api/networking paths=./api/v1alpha1 paths=./api/kube/...

# Written aside first, so that a kind that is gone leaves no file behind, and a
# failure leaves the old ones.
crds=$(mktemp -d)
binaries=$(mktemp -d)
trap 'rm -rf "$crds" "$binaries"' EXIT
controller_gen crd:crdVersions=v1,allowDangerousTypes=true,generateEmbeddedObjectMeta=false,maxDescLen=400 paths=./api/kube/... output:crd:dir="$crds"
rm -f deploy/crds/*.yaml deploy/crds/alone/*.yaml
mkdir -p deploy/crds/alone
mv "$crds"/networking.k8s.io_*.yaml deploy/crds/alone/ # a cluster has these kinds itself
cp "$crds"/*.yaml deploy/crds/
chmod 644 deploy/crds/*.yaml deploy/crds/alone/*.yaml
gofmt -l -w api

go run ./hack/hidden

# The reference is written last: it reads the CRDs, the source, and what the
# binaries say with --help.
export GOFLAGS="${GOFLAGS:--buildvcs=false}" CGO_ENABLED=0
go build -o "$binaries/" ./cmd/sluice ./cmd/sluice-server ./cmd/sluice-proxy
go run ./hack/reference -bin "$binaries" -out docs/reference

# The licences of what the binaries link.
go run ./hack/licences -out THIRD_PARTY_LICENSES

# The page of attacks is the table that the tests run.
go run ./test/attack/cmd/attack -page >docs/guide/attacks.md
