package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// everyWho makes the attempts as each of those that root can be, and prints one table.
func (p plan) everyWho() error {
	verdicts := make(map[string]map[string]string)
	var bad []string
	var failed error
	names := []string{"root", "user", "run-as"}
	for _, name := range names {
		var output bytes.Buffer
		err := p.runAs(name, &output)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return fmt.Errorf("as %s: %w", name, err)
		}
		failed = errors.Join(failed, err)
		for line := range strings.Lines(output.String()) {
			fields := strings.Fields(line)
			if verdicts[fields[1]] == nil {
				verdicts[fields[1]] = make(map[string]string)
			}
			verdicts[fields[1]][name] = fields[0]
			if fields[0] == "FAIL" {
				bad = append(bad, name+": "+line)
			}
		}
	}
	fmt.Printf("%-5s %-5s %-7s %s\n", names[0], names[1], names[2], "attempt: right outcome")
	for _, row := range Table() {
		if got := verdicts[row.ID]; got != nil {
			word := func(name string) string {
				if got[name] == "" {
					return "-"
				}
				return got[name]
			}
			fmt.Printf("%-5s %-5s %-7s %s — %s: %s\n", word(names[0]), word(names[1]), word(names[2]), row.ID, row.Tried, row.Right)
		}
	}
	for _, line := range bad {
		fmt.Fprint(os.Stderr, line)
	}
	return failed
}
