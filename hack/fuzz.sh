#!/usr/bin/env bash
# Runs each fuzz test of the module for the time given (default 30s), two at once,
# and fails where one finds something; what it found stands below testdata/fuzz.
#
# The binary of a package is built once for all of its fuzz tests. An input that is
# new is made smaller in at most 100 tries: by default that may take a minute, in
# which nothing else is tried.
set -euo pipefail
cd "$(dirname "$0")/.."
export GO=${GO:-go} TIME=${1:-30s}
MODULE=$($GO list -m) CACHE=$($GO env GOCACHE)/fuzz
WORK=$(mktemp -d)
export MODULE CACHE WORK
trap 'rm -rf "$WORK"' EXIT
at_once=2
WORKERS=$((($(nproc) + at_once - 1) / at_once))
export WORKERS

# fuzz PACKAGE TARGET BINARY
fuzz() {
	local package=$1 target=$2 binary=$3 log
	log=$WORK/$target.$(basename "$binary").log
	if (cd "$package" && "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$TIME" \
		-test.fuzzminimizetime 100x -test.parallel "$WORKERS" \
		-test.fuzzcachedir "$CACHE/$MODULE/${package#./}") </dev/null >"$log" 2>&1; then
		echo "ok    $package $target: $(grep -oE 'execs: [0-9]+' "$log" | tail -n 1)"
		return
	fi
	# golang.org/issue/75804: up to Go 1.26 the end of the time itself may be told as
	# a failure. A real one names the input that failed.
	if grep -q '^ *context deadline exceeded$' "$log" && ! grep -qE 'Failing input|panic:|fatal error:|hung or terminated' "$log"; then
		echo "ok    $package $target: $(grep -oE 'execs: [0-9]+' "$log" | tail -n 1)"
		return
	fi
	echo "FAIL  $package $target"
	cat "$log"
	return 1
}
export -f fuzz

# First what is to run, a line each: package, target, binary.
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r package; do
	binary=$WORK/$(echo "${package#./}" | tr / -).test
	echo "building the fuzz tests of $package" >&2
	$GO test -c -fuzz . -o "$binary" "$package" </dev/null
	grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$package"/*_test.go | while read -r _ target; do
		echo "$package $target $binary"
	done
done >"$WORK/targets"
echo "fuzzing each of $(wc -l <"$WORK/targets") targets for $TIME, $at_once at once" >&2
xargs -P "$at_once" -L 1 bash -c 'fuzz "$@"' fuzz <"$WORK/targets"
