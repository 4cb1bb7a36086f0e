package run

import (
	"slices"
	"testing"
)

func TestWhereMAKEFLAGSHasItsTokens(t *testing.T) {
	for flags, want := range map[string]struct {
		numbers []int
		fifo    string
	}{
		"":                                       {},
		"k":                                      {},
		" -j4 --jobserver-auth=3,4":              {[]int{3, 4}, ""},
		"kw -j --jobserver-fds=5,6 -j":           {[]int{5, 6}, ""},
		"-j --jobserver-auth=fifo:/tmp/GMfifo12": {nil, "/tmp/GMfifo12"},
		"--jobserver-auth=3,4 --jobserver-auth=fifo:/f": {nil, "/f"},
		"--jobserver-auth=fifo:/f --jobserver-fds=7,8":  {[]int{7, 8}, ""},
		"-j4 -- X=--jobserver-auth=3,4":                 {},
		"-j4 -- --jobserver-auth=3,4":                   {},
		"--jobserver-auth=-2,-2":                        {},
		"--jobserver-auth=0,1":                          {},
		"--jobserver-auth=3,3":                          {},
		"--jobserver-auth=3":                            {},
		"--jobserver-auth=3,4,5":                        {},
		"--jobserver-auth=,":                            {},
		"--jobserver-auth=99999999999999999999,4":       {},
	} {
		numbers, fifo := jobserver(flags)
		if !slices.Equal(numbers, want.numbers) || fifo != want.fifo {
			t.Errorf("%q: %v and %q, want %v and %q", flags, numbers, fifo, want.numbers, want.fifo)
		}
	}
}
