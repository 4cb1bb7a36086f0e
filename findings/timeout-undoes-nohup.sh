#!/usr/bin/env bash
#
# What runs below coreutils' timeout is not immune to SIGHUP, though nohup is around it.
#
# Versions: Debian's coreutils 9.1-1 and busybox-static 1:1.35.0-4+deb12u1+b1 (bookworm, amd64).
#
# Expected: a signal that is ignored when a program starts stays ignored in what it starts
#   (POSIX, execve), and a wrapper that only watches the clock changes nothing about that.
#
# Seen: coreutils' timeout sets handlers of its own for SIGHUP, SIGINT, SIGQUIT and SIGTERM
#   without looking whether they are ignored. Across exec a handler becomes the default, so
#   the command of `nohup timeout 5 CMD` ignores no SIGHUP. BusyBox's timeout leaves it ignored.
#
# Why it matters here: a sandbox or service that keeps what is ignored, as a shell does, is
#   tested below nohup by way of timeout, and the test sees a program without nohup.
#
# Needs: bash, Debian's bookworm as a source of apt, dpkg-deb.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq coreutils=9.1-1 busybox-static=1:1.35.0-4+deb12u1+b1 2> /dev/null
for package in *.deb; do
	dpkg-deb -x "$package" .
done
# ignores prints whether what the words start ignores SIGHUP, the first bit of the mask.
ignores() {
	"$@" awk '/^SigIgn:/ { print (substr($2, length($2)) ~ /[13579bdf]/ ? "ignored" : "not ignored") }' /proc/self/status
}
trap '' HUP # as nohup does
{
	echo "alone: $(ignores env)"
	echo "coreutils: $(ignores ./usr/bin/timeout 5)"
	echo "busybox: $(ignores ./bin/busybox timeout 5)"
} > out

cat out
diff -u - out <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
alone: ignored
coreutils: not ignored
busybox: ignored
E
