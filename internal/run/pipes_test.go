package run

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/sandbox"
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

func TestTokensOfMakeGiveWayToThePipesThatAreNamed(t *testing.T) {
	ends := make([]int, 2)
	if err := unix.Pipe2(ends, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sandbox.ClosePipes([]sandbox.Pipe{{FD: ends[0]}, {FD: ends[1]}}) })
	var numbers []int
	for range sandbox.MaxPipes + 1 {
		number, err := unix.Dup(ends[0]) // which a child inherits
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(number) })
		numbers = append(numbers, number)
	}
	for named, want := range map[int]int{0: 2, 14: 16, 15: 15, 16: 16} {
		tokens := numbers[len(numbers)-2:]
		if named == 16 {
			tokens = []int{numbers[0], numbers[16]} // one is named too
		}
		c := &Config{Pipes: numbers[:named], Env: []string{fmt.Sprintf("MAKEFLAGS=-j --jobserver-auth=%d,%d", tokens[0], tokens[1])}}
		if all, err := c.findPipes(); err != nil || len(all) != want {
			t.Errorf("beside %d pipes: %d in all, %v, want %d", named, len(all), err, want)
		}
	}
	if _, err := (&Config{Pipes: numbers}).findPipes(); err == nil || err.Error() != "--fd: at most 16 pipes" {
		t.Error(err)
	}
}
