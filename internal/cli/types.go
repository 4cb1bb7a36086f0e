package cli

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/api"
)

// lookup finds the kind of a word; of one that is not known it says which word is
// near.
func lookup(word string) (*api.Kind, error) {
	kind, err := api.Lookup(word)
	if err != nil && !strings.Contains(word, "-") { // those have a hint already
		if near := nearest(strings.ToLower(word)); near != "" {
			err = fmt.Errorf("%w. Did you mean %s?", err, near)
		}
	}
	return kind, err
}

// nearest is the word for a type that is at most two letters away, or "".
func nearest(word string) string {
	best, found := 3, ""
	for _, kind := range api.Kinds() {
		for _, known := range []string{kind.Singular, kind.Plural} {
			if d := api.Distance(word, known); d < best {
				best, found = d, known
			}
		}
	}
	return found
}
