#!/bin/sh
# Writes the manual pages of the built programs into $BIN/man, from what their
# commands say with --help.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go} BIN=${BIN:-bin}
CGO_ENABLED=0 $GO run ./hack/reference -bin "$BIN" -man "$BIN/man"
