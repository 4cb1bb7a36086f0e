package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Hidden is the line of a hidden file or folder that the command opened, for the first
// time; which of its processes did is not known.
type Hidden struct {
	Format  int       `json:"format"`            // version of this schema: 1
	Kind    string    `json:"kind"`              // "hidden"
	Time    time.Time `json:"time"`              // when it was opened
	Path    string    `json:"path"`              // which file or folder, as --show takes it
	What    string    `json:"what,omitempty"`    // what it holds by the list of hidden files; absent where --hide names it
	Instead string    `json:"instead,omitempty"` // what is better than to show it
}

// PrintHidden writes after a command which hidden files it opened, in one write.
func PrintHidden(w io.Writer, opened []Hidden) error {
	if len(opened) == 0 {
		return nil
	}
	var b strings.Builder
	for i := range opened[:min(len(opened), MaxLines)] {
		b.WriteString(HiddenLine(&opened[i]))
	}
	if left := len(opened) - MaxLines; left > 0 {
		fmt.Fprintf(&b, "sluice: and %d more hidden files were opened\n", left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// HiddenLine is what is said of one that was opened.
func HiddenLine(h *Hidden) string {
	if h.What == "" {
		return fmt.Sprintf("sluice: the command opened %s, which --hide hides from it\n", Printable(h.Path))
	}
	advice := ""
	if h.Instead != "" {
		advice = "; " + h.Instead
	}
	if Printable(h.Path) == h.Path && !strings.Contains(h.Path, "'") { // people paste the line
		advice += fmt.Sprintf("; --show '%s' gives it to the command", h.Path)
	}
	return fmt.Sprintf("sluice: the command opened %s, which is hidden from it (%s)%s\n", Printable(h.Path), h.What, advice)
}
