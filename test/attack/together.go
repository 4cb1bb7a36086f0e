package attack

import (
	"bytes"
	"cmp"
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
	for _, as := range names {
		name := as.name
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
	for _, as := range names {
		fmt.Printf("%-7s", as.name)
	}
	fmt.Println("attempt: right outcome")
	for _, row := range Table() {
		if got := verdicts[row.ID]; got != nil {
			for _, as := range names {
				fmt.Printf("%-7s", cmp.Or(got[as.name], "-"))
			}
			fmt.Printf("%s — %s: %s\n", row.ID, row.Tried, row.Right)
		}
	}
	for _, line := range bad {
		fmt.Fprint(os.Stderr, line)
	}
	return failed
}
