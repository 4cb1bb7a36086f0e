package doctor

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hidden is a text of this machine alone, and what others read in its place.
type hidden struct{ text, shown string }

// WriteJSON writes the report for somebody else. Errors of the system name paths: each
// that was chosen here is replaced by what it follows from, wherever it stands.
func (r *Report) WriteJSON(w io.Writer) error {
	text, err := marshal(r)
	if err != nil {
		return err
	}
	hide := slices.Clone(r.hide)
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) && filepath.Clean(home) != "/" {
		hide = append(hide, hidden{filepath.Clean(home), "~"})
	}
	for _, name := range []string{os.Getenv("USER"), os.Getenv("LOGNAME")} {
		if name != "" && name != "root" {
			hide = append(hide, hidden{"/" + name + "/", "/USER/"})
		}
	}
	// The longest first: what is below a folder that is replaced may be replaced itself.
	slices.SortStableFunc(hide, func(a, b hidden) int { return len(b.text) - len(a.text) })
	var pairs []string
	for _, each := range hide {
		for _, part := range []string{each.text, each.shown} {
			quoted, err := marshal(part)
			if err != nil {
				return err
			}
			pairs = append(pairs, strings.Trim(string(bytes.TrimSpace(quoted)), `"`))
		}
	}
	_, err = strings.NewReplacer(pairs...).WriteString(w, string(text))
	return err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
