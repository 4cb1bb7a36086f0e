package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	clients "sluice.dev/sluice/test/clients/table"
)

// writeClients is the table that test/clients runs, in words. It is made of the rows
// alone and never of a run.
func writeClients(b *bytes.Buffer, _ sources) error {
	b.WriteString(`# Clients

What Sluice is tested with, as ` + "`make test-clients`" + ` runs it: each line was typed as it stands, against a real
server of its protocol in the small internet of the tests, once with the flags that allow it and once as
` + "`sluice run -- …`" + ` alone. No client was given a variable, a proxy or a setting for Sluice.

The small internet answers for the names of the real registries, and its certificates are of a CA of its
own. That CA is what the tests give to each client by what that reads: ` + "`SSL_CERT_FILE`" + ` (Go, crane, Python, Ruby),
` + "`CURL_CA_BUNDLE`, `GIT_SSL_CAINFO`, `PIP_CERT`, `CARGO_HTTP_CAINFO`, `NODE_EXTRA_CA_CERTS`, npm's `cafile`" + `, the file that
` + "`WGETRC`" + ` names, a trust store for Java, the NSS database in Chromium's home; and the go command has the key of the
tests' checksum database. On the real internet none of these is needed.

A denied connect is refused at once; on a level without a supervisor it succeeds at first and is then reset,
which the lines with ` + "`--unsupervised`" + ` show.

`)
	rows := clients.All()
	var summary [][]string
	for _, c := range rows {
		at := strings.NewReplacer(" ", "-", "(", "", ")", "", "+", "").Replace(strings.ToLower(c.Name))
		summary = append(summary, []string{fmt.Sprintf("[%s](#%s)", c.Name, at), code(c.Flags), code(c.Reports)})
	}
	table(b, []string{"client", "allowed by", "else denied"}, summary)
	for _, c := range rows {
		fmt.Fprintf(b, "\n## %s\n\n", c.Name)
		fmt.Fprintf(b, "`%s` prints `%s`", c.Version, c.Pinned)
		if c.Setup != "" {
			fmt.Fprintf(b, "; %s", c.Setup)
		}
		if c.Root {
			b.WriteString("; run as root")
		}
		b.WriteString(".\n\n```console\n")
		fmt.Fprintf(b, "$ sluice run %s -- %s\n", c.Flags, c.Line)
		writeOutcome(b, c.Allowed)
		writeDenied(b, &c, "", c.Denied)
		if c.Unsupervised.Codes != nil {
			writeDenied(b, &c, "--unsupervised ", c.Unsupervised)
		}
		b.WriteString("```\n")
		if len(c.Beside) > 0 {
			hosts := slices.Clone(c.Beside)
			for i := range hosts {
				hosts[i] = code(hosts[i])
			}
			fmt.Fprintf(b, "\nOf its own accord it also calls %s, which both runs deny and report.\n", strings.Join(hosts, ", "))
		}
	}
	return nil
}

// writeDenied writes what the line prints and ends with where nothing allows it.
func writeDenied(b *bytes.Buffer, c *clients.Client, flags string, o clients.Outcome) {
	fmt.Fprintf(b, "$ sluice run %s-- %s\n", flags, c.Line)
	writeOutcome(b, o)
	if !o.Unspoken {
		fmt.Fprintf(b, "sluice: denied %s (%s)…\n", c.Reports, cmp.Or(o.Why, clients.NoRule))
	}
}

// writeOutcome writes what an outcome prints and ends with, as a terminal shows it.
func writeOutcome(b *bytes.Buffer, o clients.Outcome) {
	for _, says := range o.Says {
		fmt.Fprintf(b, "…%s…\n", strings.TrimSpace(says))
	}
	codes := make([]string, len(o.Codes))
	for i, c := range o.Codes {
		codes[i] = fmt.Sprint(c)
	}
	fmt.Fprintf(b, "(exit status %s)\n", strings.Join(codes, " or "))
}
