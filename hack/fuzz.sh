#!/usr/bin/env bash
# Runs each fuzz test of the module for the time given (default 30s), one after
# another, and fails with the first that finds something.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go} time=${1:-30s}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	package=./$(dirname "${file#./}")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r target; do
		echo "fuzz $package $target for $time"
		$GO test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
	done
done
