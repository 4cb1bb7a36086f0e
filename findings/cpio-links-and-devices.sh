#!/usr/bin/env bash
#
# What cavaliergopher/cpio writes of a symbolic link, by the header that it read of
# one, it refuses to read; devices lose their numbers.
#
# Versions: Go module github.com/cavaliergopher/cpio v1.0.1.
#
# Expected: Header has Linkname, "valid for TypeLink or TypeSymlink", and DeviceID. A
#   Writer given the header that a Reader returned of a link writes that link; given a
#   character device with a DeviceID it writes the device. By its comment Write must
#   not be called for either: it "returns (0, ErrWriteTooLong)".
#
# Seen: WriteHeader passes over both fields. A link is written without its target,
#   WriteHeader, Flush and Close return nil, and the package's own Reader ends at it
#   with "invalid cpio header". What makes a link is what the comment excludes: Size set to
#   the target's length, and the target given to Write, which takes it. A device is
#   written with the numbers 0, 0, which no field can change.
#
# Why it matters here: an initramfs for tests is made with it. /dev/console without its
#   numbers is no console, and a kernel ignores a link without a target in silence.
#
# Needs: bash, Go.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'M'
module finding

go 1.26.0

require github.com/cavaliergopher/cpio v1.0.1
M
cat > main.go <<'G'
package main

import (
	"bytes"
	"fmt"

	"github.com/cavaliergopher/cpio"
)

func write(entries ...func(*cpio.Writer) error) []byte {
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	for _, entry := range entries {
		if err := entry(w); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return archive.Bytes()
}

func main() {
	console := func(w *cpio.Writer) error {
		return w.WriteHeader(&cpio.Header{Name: "console", Mode: cpio.TypeChar | 0o600, DeviceID: 5<<8 | 1})
	}
	archive := write(console)
	header, err := cpio.NewReader(bytes.NewReader(archive)).Next()
	fmt.Printf("a device of 5, 1 is written with %s, read with DeviceID %d, %v\n", archive[78:94], header.DeviceID, err)

	byTheComment := func(w *cpio.Writer) error {
		return w.WriteHeader(&cpio.Header{Name: "link", Mode: cpio.TypeSymlink | 0o777, Linkname: "target"})
	}
	header, err = cpio.NewReader(bytes.NewReader(write(byTheComment))).Next()
	fmt.Printf("a link by its Linkname is read as %v, %v\n", header, err)

	byItsBody := func(w *cpio.Writer) error {
		if err := w.WriteHeader(&cpio.Header{Name: "link", Mode: cpio.TypeSymlink | 0o777, Size: 6}); err != nil {
			return err
		}
		n, err := w.Write([]byte("target"))
		fmt.Printf("Write for a link returns %d, %v\n", n, err)
		return err
	}
	whole := write(byItsBody)
	header, err = cpio.NewReader(bytes.NewReader(whole)).Next()
	fmt.Printf("a link by its body is read with Linkname %q, %v\n", header.Linkname, err)

	copied := write(func(w *cpio.Writer) error { return w.WriteHeader(header) })
	header, err = cpio.NewReader(bytes.NewReader(copied)).Next()
	fmt.Printf("written again by that header it is read as %v, %v\n", header, err)
}
G
go mod tidy > tidy.log 2>&1
go run . | tee seen
diff seen - <<'S'
a device of 5, 1 is written with 0000000000000000, read with DeviceID 0, <nil>
a link by its Linkname is read as <nil>, cpio: invalid cpio header
Write for a link returns 6, <nil>
a link by its body is read with Linkname "target", <nil>
written again by that header it is read as <nil>, cpio: invalid cpio header
S
