// Package version says which Sluice this is. The linker sets it; nothing else
// may.
package version

import "runtime/debug"

var version string // -ldflags "-X sluice.dev/sluice/internal/version.version=…"

// String returns the version, "devel" where the linker set none and the build
// says nothing either.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
