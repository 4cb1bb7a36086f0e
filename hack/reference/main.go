// Command reference writes docs/reference: the commands, the kinds, the limits,
// the reasons, the reports, the exit statuses and the tested clients, each out of what
// the program, or for the clients their table, itself says.
// `make generate` calls it, and hack/man.sh for the manual pages. It never writes what depends on the machine.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// page is one file of the reference.
type page struct {
	file  string
	write func(*bytes.Buffer, sources) error
}

// sources is where the reference is made from.
type sources struct {
	root     string // of the module
	binaries string // folder of sluice, sluice-server and sluice-proxy
}

var pages = []page{
	{"README.md", writeIndex},
	{"commands.md", writeCommands},
	{"kinds.md", writeKinds},
	{"limits.md", writeLimits},
	{"reasons.md", writeReasons},
	{"attributes.md", writeAttributes},
	{"reports.md", writeReports},
	{"hidden-files.md", writeHidden},
	{"exit-statuses.md", writeExits},
	{"clients.md", writeClients},
}

func main() {
	var s sources
	var out, man string
	flag.StringVar(&s.root, "root", ".", "folder of the module")
	flag.StringVar(&s.binaries, "bin", "bin", "folder of the binaries whose --help is read")
	flag.StringVar(&out, "out", "docs/reference", "folder to write")
	flag.StringVar(&man, "man", "", "folder to write manual pages of the commands to, in place of the reference")
	flag.Parse()
	if man != "" {
		if err := writeManual(s, man); err != nil {
			fmt.Fprintln(os.Stderr, "reference:", err)
			os.Exit(1)
		}
		return
	}
	if err := generate(s, out); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// generate makes every page before it writes the first, so that a failure leaves the
// old ones.
func generate(s sources, out string) error {
	written := make([]bytes.Buffer, len(pages))
	for i, p := range pages {
		if p.file != "README.md" {
			fmt.Fprintf(&written[i], "<!-- Written by `make generate`; do not edit. -->\n\n")
		}
		if err := p.write(&written[i], s); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for i, p := range pages {
		if err := os.WriteFile(filepath.Join(out, p.file), written[i].Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeIndex(b *bytes.Buffer, _ sources) error {
	b.WriteString(`<!-- Written by ` + "`make generate`" + `; do not edit. -->

# Reference

Written by ` + "`make generate`" + ` out of the program itself; ` + "`make lint`" + ` fails where it is stale.
How to do something is said in the [guide](../guide/README.md).

- [Commands](commands.md): every command and flag of ` + "`sluice`, `sluice-server` and `sluice-proxy`" + `.
- [Kinds](kinds.md): every field of what can be created.
- [Limits](limits.md): every time-out, bound and default.
- [Reasons](reasons.md): every code with which a connection or request is denied or fails.
- [Attributes](attributes.md): what is known of a connection or request, under which name, and the flags of failures.
- [Reports](reports.md): the lines that ` + "`sluice run --report`" + ` writes.
- [Hidden files](hidden-files.md): what ` + "`sluice run`" + ` hides from a command unless ` + "`--show`" + ` names it.
- [Exit statuses](exit-statuses.md).
- [Clients](clients.md): each that is tested, its line, and what it prints where it is allowed and where it is denied.
`)
	return nil
}
