#!/usr/bin/env bash
# gofmt, go vet (of the command line on macOS and Windows too), staticcheck, and
# whether generated files are what `make generate` would write.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "gofmt would change: $unformatted" >&2
	exit 1
fi
go vet ./...
# The client builds where there are no namespaces, with each package that it links.
for system in darwin windows; do
	linked=$(GOOS=$system go list -deps ./cmd/sluice | grep '^sluice\.dev/')
	# shellcheck disable=SC2086 # a list of packages
	GOOS=$system go vet ./cmd/sluice/... $linked
done
go tool staticcheck ./...
before=$(git ls-files -s; git diff)
hack/generate.sh >/dev/null
after=$(git ls-files -s; git diff)
if [ "$before" != "$after" ]; then
	git --no-pager diff --stat >&2
	echo "generated files are stale: run make generate and commit what it wrote" >&2
	exit 1
fi
