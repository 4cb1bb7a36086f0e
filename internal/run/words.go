package run

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// maxDenied bounds the lines that are said after a command.
const maxDenied = 20

// denial is one destination that was denied, however often.
type denial struct {
	destination, text string
	reason            refusal.Reason
}

// summarize says after the command what was denied and how to allow it.
func summarize(w io.Writer, flows []record.Record) {
	var order []denial
	times := make(map[denial]int)
	for i := range flows {
		f := &flows[i]
		if f.Verdict != record.Denied {
			continue
		}
		d := denial{destination: destinationOf(f), text: textOf(f), reason: f.Reason}
		if times[d] == 0 {
			order = append(order, d)
		}
		times[d]++
	}
	for i, d := range order {
		if i == maxDenied {
			fmt.Fprintf(w, "sluice: and %d more destinations were denied\n", len(order)-i)
			return
		}
		fmt.Fprintf(w, "sluice: denied %s (%s)%s", printable(d.destination), printable(d.text), timesText(times[d]))
		if d.reason == refusal.NoRule && isAllow(d.destination) {
			fmt.Fprintf(w, "; allow it with --allow '%s'", d.destination)
		}
		fmt.Fprintln(w)
	}
}

// maxWord bounds a name or a reason in such a line, in bytes.
const maxWord = 300

// printable escapes what a command chose and a terminal would obey, and cuts what
// is long.
func printable(text string) string {
	cut := ""
	if len(text) > maxWord {
		text, cut = text[:maxWord], "…"
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + cut
}

// isAllow says whether --allow takes the text, and a shell takes it between quotes:
// people paste the line.
func isAllow(text string) bool {
	_, err := advice.ParseAllow(text)
	return err == nil && !strings.Contains(text, "'") && printable(text) == text
}

// textOf is the reason as a sentence. Policy has one for its own; what the HTTP
// engine refused by itself stands in the detail.
func textOf(f *record.Record) string {
	if reason := f.Reason; reason.Denied() && reason.Group() == refusal.ByRule || f.Detail == "" {
		return reason.Text()
	}
	return f.Detail
}

func timesText(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(", %d times", n)
}

// destinationOf is the destination of a flow as --allow takes it.
func destinationOf(f *record.Record) string {
	host := f.Dialled
	if _, err := netip.ParseAddr(host); err == nil && f.SNI != "" {
		host = f.SNI
	}
	return net.JoinHostPort(host, strconv.Itoa(int(f.Port)))
}

// exitOf is the status of a command that could not be started, as a shell has it.
func exitOf(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return ExitFailed
}

// instanceName is what flows call a workload that runs alone.
func instanceName(c Config) string {
	if base := c.Workload.Base(); base != "" {
		return base + "/1"
	}
	return filepath.Base(c.Command[0]) + "/1"
}
