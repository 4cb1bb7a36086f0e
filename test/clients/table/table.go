// Package table is the table of the clients that Sluice is tested with: the version,
// the line as its user types it, and what it prints and ends with where it is allowed
// and where it is denied. The tests of test/clients run every row, `make test-clients`
// installs what they need, and hack/reference writes the page out of it. It runs
// nothing itself.
package table

// Client is one row.
type Client struct {
	Name string

	// Version is a line that prints the version: Pinned for the one that the row was
	// written by, and what the regular expression Seen matches for those that the row
	// may be run with.
	Version, Pinned, Seen string

	// What installs it where it is missing. A client with none of them belongs to the
	// machine that builds Sluice.
	Debian []string // packages of Debian
	PyPI   []string // with their versions, into an environment of the tests
	Go     []string // commands, PACKAGE@VERSION

	Servers []string // Debian packages of what answers it in the tests; they are not clients
	Sample  bool     // it is run by `make test` too, and must be there under CI
	Root    bool     // it runs as root: its user does, or it needs that

	Setup string // what was there before the line was typed, as a half sentence
	Flags string // of `sluice run`
	Line  string // the command, as typed

	Allowed Outcome // with the flags
	Denied  Outcome // of the same line without a flag
	// Unsupervised is that of the denied line where the sandbox has no supervisor, so that
	// each connect succeeds at first; without exit statuses it is Denied.
	Unsupervised Outcome
	Reports      string // the destination that Sluice then reports as denied
	Serves       string // the host that serves it where it is allowed; "" is that of Reports

	Beside []string // hosts that it calls of its own accord and that are denied in both
}

// NoRule is the reason of a denial where a row says no other.
const NoRule = "No rule allows this destination on this port."

// Outcome is how a command ends.
type Outcome struct {
	Codes []int    // one of them
	Says  []string // what it prints, each somewhere in both streams

	Why      string // of a denial, the reason that Sluice gives; "" is NoRule
	Unspoken bool   // the client says nothing on the connection, so there is no denial to report
}

func ok(says ...string) Outcome              { return Outcome{Codes: []int{0}, Says: says} }
func fails(code int, says ...string) Outcome { return Outcome{Codes: []int{code}, Says: says} }
