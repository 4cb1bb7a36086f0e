#!/usr/bin/env bash
# Builds every binary into $BIN and shows what is being built: the first build
# compiles the API machinery of Kubernetes and etcd and takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go} BIN=${BIN:-bin}
mkdir -p "$BIN"
version=$(git describe --tags --always --dirty 2>/dev/null || echo devel)
kube=$($GO list -m -f '{{.Version}}' k8s.io/apiserver) # v0.37.2 is Kubernetes v1.37.2
kube=v1.${kube#v0.}
minor=${kube#v1.}
ld="-s -w -X sluice.dev/sluice/internal/version.version=$version"
ld="$ld -X k8s.io/component-base/version.gitVersion=$kube"
ld="$ld -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"

progress() { # counts what is compiled; on a terminal on one line
	if [ -t 2 ]; then
		awk '{n++; s=$0; if (length(s) > 60) s=substr(s, 1, 57) "..."; printf "\r\033[K  %d packages, now %s", n, s > "/dev/stderr"; fflush("/dev/stderr")} END {if (n) printf "\r\033[K" > "/dev/stderr"}'
	else
		awk '{n++; if (n % 100 == 0) {printf "  %d packages, now %s\n", n, $0 > "/dev/stderr"; fflush("/dev/stderr")}}'
	fi
}

for target in sluice:./cmd/sluice sluice-proxy:./cmd/sluice-proxy bookinfo:./samples/bookinfo \
	simnet:./test/simnet/cmd/simnet attack:./test/attack/cmd/attack sluice-server:./cmd/sluice-server kubectl-sluice:./cmd/kubectl-sluice \
	sluice-top:./cmd/sluice-top; do
	name=${target%%:*} package=${target#*:}
	echo "building $BIN/$name" >&2
	{ $GO build -v -ldflags "$ld" -o "$BIN/$name" "$package" 2>&1 >&3 | tee "$BIN/.$name.log" | { grep -v '^#' || true; } | progress; } 3>&1 || {
		cat "$BIN/.$name.log" >&2
		exit 1
	}
	rm -f "$BIN/.$name.log"
done
