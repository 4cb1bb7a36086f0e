package guide

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// looks are the commands that may be typed again while nothing has come yet: a rule
// takes a moment to reach the proxy.
var looks = regexp.MustCompile(`^(curl|cat|grep|bin/sluice (get|status|flows|why|version|run .*-- curl))\b`)

// StatusAsked says whether the page asks for the status of a step's command next.
func (s *Step) StatusAsked(command int) bool {
	return command+1 < len(s.Commands) && s.Commands[command+1].Text == "echo $?"
}

// Try types one command and returns what is wrong with what came, or "". The status must
// be 0 unless the page asks for it next. What only looks is tried again for patience.
func (s *Shell) Try(c Command, statusAsked bool, patience time.Duration) string {
	deadline := time.Now().Add(patience)
	for {
		printed, status, err := s.Run(c.Text)
		said := ""
		switch {
		case err != nil:
			return fmt.Sprintf("%v; it printed:\n%s", err, printed)
		case status != 0 && !statusAsked:
			said = fmt.Sprintf("exit status %d; it printed:\n%s", status, printed)
		case c.Wants != nil && !Matches(c.Wants, printed):
			said = fmt.Sprintf("printed:\n%s\nThe page shows:\n%s", printed, strings.Join(c.Wants, "\n"))
		}
		if said == "" || !looks.MatchString(c.Text) || time.Now().After(deadline) {
			return said
		}
		time.Sleep(20 * time.Millisecond)
	}
}
